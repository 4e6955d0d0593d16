//! A number of instances, given as a count or as a percent of the desired size.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of instances, as a count or as a percent of the desired size. As text: `3` or `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub enum Amount {
    /// So many instances.
    Count(u32),
    /// So many percent of the desired size.
    Percent(u32),
}

impl Amount {
    /// The number of instances for a desired size; a part of an instance counts as a whole one.
    pub fn rounded_up(self, desired: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                u32::try_from((u64::from(desired) * u64::from(percent)).div_ceil(100)).unwrap_or(u32::MAX)
            }
        }
    }

    /// The number of instances for a desired size; a part of an instance counts as none.
    pub fn rounded_down(self, desired: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => u32::try_from(u64::from(desired) * u64::from(percent) / 100).unwrap_or(u32::MAX),
        }
    }
}

/// A text that is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("amount {0:?}: write a number of instances like 3, or a percent like 25%")]
pub struct AmountError(String);

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let error = || AmountError(text.chars().take(40).collect());
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten().ok_or_else(error)
        };
        match text.strip_suffix('%') {
            Some(percent) => number(percent.trim_end()).map(Self::Percent),
            None => number(text).map(Self::Count),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Count(u32),
    Text(String),
}

impl TryFrom<Text> for Amount {
    type Error = AmountError;
    fn try_from(text: Text) -> Result<Self, AmountError> {
        match text {
            Text::Count(count) => Ok(Self::Count(count)),
            Text::Text(text) => text.parse(),
        }
    }
}

impl From<Amount> for Text {
    fn from(amount: Amount) -> Self {
        match amount {
            Amount::Count(count) => Self::Count(count),
            percent @ Amount::Percent(_) => Self::Text(percent.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_round_as_the_budgets_need_it() {
        for (percent, of, up, down) in
            [(25, 4, 1, 1), (25, 3, 1, 0), (20, 2, 1, 0), (0, 9, 0, 0), (100, 7, 7, 7), (1, 1_000_000, 10_000, 10_000)]
        {
            let amount = Amount::Percent(percent);
            assert_eq!((amount.rounded_up(of), amount.rounded_down(of)), (up, down), "{percent} % of {of}");
        }
        assert_eq!(Amount::Percent(u32::MAX).rounded_up(u32::MAX), u32::MAX);
    }

    #[test]
    fn an_amount_survives_its_text() {
        for text in ["0", "3", "25%", "100%"] {
            let amount: Amount = text.parse().expect(text);
            assert_eq!(amount.to_string(), text);
            let json = serde_json::to_string(&amount).expect("plain data");
            assert_eq!(serde_json::from_str::<Amount>(&json).expect("its own text"), amount);
        }
        for text in ["", "%", "-1", "+1", "1.5", "25 percent", "99999999999"] {
            let error = text.parse::<Amount>().expect_err(text);
            let expected = format!("amount {text:?}: write a number of instances like 3, or a percent like 25%");
            assert_eq!(error.to_string(), expected);
        }
    }
}
