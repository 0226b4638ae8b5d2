//! Randomness: the only file that draws it. Never seeds anything by hand.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The system's random source has failed; nothing secret can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub struct NoRandomness;

/// `N` random bytes.
///
/// # Errors
/// [`NoRandomness`].
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut buffer = [0; N];
    #[expect(clippy::disallowed_methods, reason = "the one legal reader of randomness")]
    let system = SystemRandom::new();
    system.fill(&mut buffer).map_err(|_| NoRandomness)?;
    Ok(buffer)
}

/// `len` random letters and digits (5.95 bits each: 22 make 128 bits).
///
/// # Errors
/// [`NoRandomness`].
pub fn base62(len: usize) -> Result<String, NoRandomness> {
    let mut text = String::with_capacity(len);
    while text.len() < len {
        for byte in bytes::<64>()? {
            // 248 = 4 * 62: the rest would favour the first letters.
            if byte < 248
                && text.len() < len
                && let Some(letter) = BASE62.get(usize::from(byte % 62))
            {
                text.push(char::from(*letter));
            }
        }
    }
    Ok(text)
}
