//! How long the order can still be paid: digits for the eye every second, words for the ear three times.
//! Never reads the device's wall clock; `session` counts.

use super::i18n::Text;

/// `29:41`, or `1:29:41`.
pub fn clock_face(seconds: u32) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

/// What is announced when the time left falls from `before` to `now` seconds.
pub const fn announcement(before: u32, now: u32) -> Option<Text> {
    if before > 30 && now <= 30 && now > 0 {
        Some(Text::ThirtySecondsLeft)
    } else if before > 60 && now <= 60 && now > 30 {
        Some(Text::OneMinuteLeft)
    } else if before > 300 && now <= 300 && now > 60 {
        Some(Text::FiveMinutesLeft)
    } else {
        None
    }
}

/// How the stylesheet should stress it.
pub const fn urgency(left: Option<u32>) -> &'static str {
    match left {
        None => "none",
        Some(..60) => "last",
        Some(..300) => "soon",
        Some(_) => "calm",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faces() {
        for (seconds, face) in
            [(0, "00:00"), (59, "00:59"), (1781, "29:41"), (3600, "1:00:00"), (604_800, "168:00:00")]
        {
            assert_eq!(clock_face(seconds), face);
        }
    }

    #[test]
    fn three_announcements_whatever_the_steps() {
        for step in [1, 7, 20] {
            let mut before = 400_u32;
            let mut said = Vec::new();
            while before > 0 {
                let now = before.saturating_sub(step);
                said.extend(announcement(before, now));
                before = now;
            }
            assert_eq!(said, [Text::FiveMinutesLeft, Text::OneMinuteLeft, Text::ThirtySecondsLeft], "{step}");
        }
        // Back from sleep: the last one only.
        assert_eq!(announcement(1_000, 20), Some(Text::ThirtySecondsLeft));
        assert_eq!(announcement(1_000, 0), None);
    }
}
