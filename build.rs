//! Makes the site's folder, so that a fresh clone compiles with an empty site, and has the binary built
//! again when the site was. Never builds the site: `.ci/site.sh` does.

fn main() -> std::io::Result<()> {
    std::fs::create_dir_all("target/site")?;
    println!("cargo:rerun-if-changed=target/site");
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}
