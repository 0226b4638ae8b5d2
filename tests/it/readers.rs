//! Every reader of bytes from outside, fed with damaged messages: none panics, none takes long. A short run
//! with a fixed seed; `fuzz/` has the same targets for long ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Bytes that an input may have, as everything of ours that listens has it.
const LONGEST: usize = 64 * 1024;
/// Time that one reading may take, in a build without optimisation.
const SLOWEST: Duration = Duration::from_millis(50);
const SEED: u64 = 20_261_127;

/// The same numbers every time (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }
}

/// What readers trip over.
const TOKENS: &[&[u8]] = &[
    b"<",
    b">",
    b"</",
    b"]]>",
    b"<![CDATA[",
    b"&#0;",
    b"&#x10FFFF;",
    b"&#99999999999;",
    b"<!DOCTYPE x [",
    b"<?xml",
    b"<!--",
    b"&",
    b"=",
    b"%",
    b"%00",
    b"%F0%9F",
    b"%zz",
    b"+",
    b"&&",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\\",
    b"-",
    b"1e999",
    b"-0",
    b"99999999999999999999",
    b"null",
    b"\0",
    b"\xff\xfe",
    b"\xf0\x9f",
    b"\xef\xbb\xbf",
    b"-----BEGIN ",
    b"-----END ",
    b"-----",
    b"MIIB",
    b"=",
    b"sign=",
    b"HTTP/1.1",
    b"\r\n\r\n",
    b"Content-Length: 9\r\n",
];

/// A damaged message: up to eight changes to one of `seeds`.
fn damaged(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(8) {
        let at = dice.below(data.len() + 1);
        let to = at + dice.below(data.len() - at + 1).min(200);
        match dice.below(8) {
            0 if at < data.len() => data[at] ^= 1 << dice.below(8),
            1 if at < data.len() => data[at] = u8::try_from(dice.below(256)).unwrap(),
            2 => drop(data.drain(at..to)),
            3 => drop(data.splice(at..at, TOKENS[dice.below(TOKENS.len())].iter().copied())),
            4 => {
                let copy = data[at..to].to_vec();
                data.splice(at..at, copy);
            }
            5 => {
                let other = &seeds[dice.below(seeds.len())];
                data.truncate(at);
                data.extend_from_slice(&other[dice.below(other.len())..]);
            }
            6 => data.truncate(at),
            _ => {
                let copy = data[at..to].to_vec();
                let times = dice.below(20);
                data.splice(at..at, copy.repeat(times));
            }
        }
    }
    data.truncate(LONGEST);
    data
}

/// Inputs as long as they may be: one thing again and again, alone and inside a right message.
fn long(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = TOKENS.iter().copied().map(<[u8]>::to_vec).collect();
    pieces
        .extend(["a", "<a>", "<a/>", "a=1&", "{\"a\":", "[[", "\"a\":1,", " ", "A", "&amp;"].map(Into::into));
    // Fields with names of their own, or the second would end the reading.
    let fields = |make: fn(usize) -> String| (0..9000).map(make).collect::<String>().into_bytes();
    let mut all = vec![
        fields(|n| format!("<a{n}>1</a{n}>")),
        fields(|n| format!("a{n}=1&")),
        [b"<xml>".to_vec(), fields(|n| format!("<a{n}>1</a{n}>"))].concat(),
        [b"{".to_vec(), fields(|n| format!("\"a{n}\":1,"))].concat(),
    ];
    for piece in pieces {
        let many = piece.repeat(LONGEST / piece.len());
        let seed = &seeds[0];
        let middle = seed.len() / 2;
        all.push([&seed[..middle], &many[..LONGEST.saturating_sub(seed.len())], &seed[middle..]].concat());
        all.push(many);
    }
    for input in &mut all {
        input.truncate(LONGEST);
    }
    all
}

/// How long a reader takes. What is slow once may have been put to sleep: the best of five counts.
fn measured(target: targets::Target, data: &[u8]) -> Duration {
    let once = || {
        #[expect(clippy::disallowed_methods, reason = "how long it takes is the question")]
        let start = Instant::now();
        target(data);
        start.elapsed()
    };
    let first = once();
    if first < SLOWEST { first } else { (0..4).map(|_| once()).fold(first, Duration::min) }
}

#[test]
fn no_reader_panics_or_takes_long() {
    let mut dice = Dice(SEED);
    for (name, readings, target) in targets::TARGETS {
        let seeds = targets::seeds(name);
        assert!(seeds.len() > 1 && seeds.iter().all(|seed| !seed.is_empty()), "{name}");
        // A pasted message is a person's, who can wait while every cause is tried.
        let (rounds, limit) = match *name {
            "private_key" => (300, SLOWEST),
            "explain" => (150, Duration::from_secs(2)),
            _ => (1500, SLOWEST * *readings),
        };
        let mut inputs = seeds.clone();
        if *name != "explain" {
            inputs.extend(long(&seeds));
        }
        inputs.extend((0..rounds).map(|_| damaged(&mut dice, &seeds)));
        let mut slowest = (Duration::ZERO, 0);
        for data in &inputs {
            let took = catch_unwind(AssertUnwindSafe(|| measured(*target, data)));
            let start = String::from_utf8_lossy(&data[..data.len().min(300)]).into_owned();
            let took = took.unwrap_or_else(|_| panic!("{name} panicked at {} bytes: {start}", data.len()));
            assert!(took < limit, "{name} took {took:?} for {} bytes: {start}", data.len());
            slowest = slowest.max((took, data.len()));
        }
        println!("{name}: {} inputs, the slowest {:?} for {} bytes", inputs.len(), slowest.0, slowest.1);
    }
}
