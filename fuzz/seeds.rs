//! Writes a corpus to begin with for every target: `corpus/TARGET/N`. Never deletes what is there.

mod targets;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, ..) in targets::TARGETS {
        let directory = corpus.join(name);
        std::fs::create_dir_all(&directory)?;
        for (number, seed) in targets::seeds(name).into_iter().enumerate() {
            std::fs::write(directory.join(format!("seed{number}")), seed)?;
        }
    }
    Ok(())
}
