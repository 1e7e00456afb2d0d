//! The committed figures that the gate on instructions holds a build against: `instructions.txt`.
//!
//! A line is `name`, tab, value. The first two say what the figures hold for, a compiler and a rung of the clock; the
//! others are cases and their user instructions per operation.

use std::fmt;

/// How far a count may be from its figure, either way.
pub const TOLERANCE: f64 = 0.03;

const COMPILER: &str = "rustc";
const CLOCK: &str = "clock";

/// What the gate knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// `rustc --version` of the build that was counted.
    pub compiler: String,
    /// The rung on which the clock stood.
    pub clock: String,
    /// Cases and their counts, in the order of the file.
    pub cases: Vec<(String, f64)>,
}

impl Figures {
    /// Reads what [`Display`](fmt::Display) writes.
    ///
    /// # Errors
    ///
    /// The line that is no figure.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut figures = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.split_once('\t').ok_or_else(|| line.to_owned())?;
            match name {
                COMPILER => value.clone_into(&mut figures.compiler),
                CLOCK => value.clone_into(&mut figures.clock),
                _ => figures.cases.push((name.to_owned(), value.parse().map_err(|_| line.to_owned())?)),
            }
        }
        Ok(figures)
    }

    /// The figure of a case.
    pub fn of(&self, case: &str) -> Option<f64> {
        self.cases.iter().find(|(name, _)| name == case).map(|(_, figure)| *figure)
    }

    /// What makes counts of that compiler and clock another thing than these, if anything does.
    pub fn strangeness(&self, compiler: &str, clock: &str) -> Option<String> {
        let differ = |what: &str, ours: &str, theirs: &str| {
            (ours != theirs).then(|| format!("the figures are of {what} {ours}, this is {theirs}"))
        };
        differ(COMPILER, &self.compiler, compiler).or_else(|| differ(CLOCK, &self.clock, clock))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# User instructions per operation, within {:.0} % of which CI holds them.",
            TOLERANCE * 100.0
        )?;
        writeln!(
            f,
            "# Made anew, on purpose only, by: cargo bench -p benches --no-default-features --bench instructions -- --rebase"
        )?;
        writeln!(f, "{COMPILER}\t{}\n{CLOCK}\t{}", self.compiler, self.clock)?;
        self.cases.iter().try_for_each(|(case, figure)| writeln!(f, "{case}\t{figure:.1}"))
    }
}

/// What a count is, beside its figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Near enough.
    Held,
    /// Something has become dearer.
    Above,
    /// Something has become cheaper; the figure no longer guards it.
    Below,
    /// The case is new.
    Unknown,
}

impl Judgement {
    /// Whether `count` is within the tolerance of `figure`.
    pub fn of(count: f64, figure: Option<f64>) -> Self {
        match figure {
            None => Self::Unknown,
            Some(figure) if count > figure * (1.0 + TOLERANCE) => Self::Above,
            Some(figure) if count < figure * (1.0 - TOLERANCE) => Self::Below,
            Some(_) => Self::Held,
        }
    }

    /// In the table.
    pub fn verdict(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Above => "FAIL: dearer",
            Self::Below => "FAIL: cheaper, re-base on purpose",
            Self::Unknown => "FAIL: no figure, re-base on purpose",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let cases = vec![("yield, one context".to_owned(), 174.0), ("echo".to_owned(), 400.5)];
        Figures { compiler: "rustc 1.95.0".to_owned(), clock: "perf-page".to_owned(), cases }
    }

    #[test]
    fn what_is_written_can_be_read() {
        assert_eq!(Figures::parse(&figures().to_string()), Ok(figures()));
        assert_eq!(Figures::parse("a case without a figure\n"), Err("a case without a figure".to_owned()));
        assert!(Figures::parse("yield\tmany\n").is_err());
    }

    #[test]
    fn three_percent_either_way_are_held() {
        let judge = |count| Judgement::of(count, Some(100.0));
        assert_eq!([96.9, 97.1, 100.0, 102.9, 103.1].map(judge), {
            use Judgement::{Above, Below, Held};
            [Below, Held, Held, Held, Above]
        });
        assert_eq!(Judgement::of(100.0, figures().of("unheard of")), Judgement::Unknown);
    }

    #[test]
    fn another_compiler_or_clock_is_strange() {
        assert_eq!(figures().strangeness("rustc 1.95.0", "perf-page"), None);
        assert!(figures().strangeness("rustc 1.96.0", "perf-page").is_some());
        assert!(figures().strangeness("rustc 1.95.0", "thread-clock").is_some());
    }

    #[test]
    fn the_committed_figures_can_be_read() {
        let committed = Figures::parse(include_str!("instructions.txt")).expect("figures");
        assert!(!committed.compiler.is_empty() && !committed.clock.is_empty());
        assert!(committed.cases.iter().all(|(_, figure)| *figure > 0.0));
    }
}
