//! What follows from a ledger: whether models change places, and the figures that say why.

use super::ledger::{Account, Ledger};
use super::{Alarm, ShadowOptions, Wager};
use crate::fleet::{Span, Timestamp};
use crate::predict::failure::Reliability;

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Decision {
    /// Nothing yet; in words how far it is.
    Wait(String),
    /// The challenger takes over.
    Promote(String),
    /// The challenger goes.
    Retire(String),
    /// The model before takes its place back.
    Revert(String),
    /// What is said no longer comes true, and the model before does no better.
    Drifted(String),
}

/// One window's figures: champion, then shadow.
#[derive(Clone, PartialEq, Debug)]
pub struct Figures {
    /// The window.
    pub within: Span,
    /// Rows of which it is known what happened.
    pub rows: u64,
    /// Blocks of a host in which it failed.
    pub failures: u64,
    /// Rows of which nobody knows.
    pub unknown: u64,
    /// Mean squared error.
    pub brier: (f64, f64),
    /// Log loss in nats.
    pub log_loss: (f64, f64),
    /// Average precision.
    pub auprc: (f64, f64),
    /// Expected calibration error.
    pub ece: (f64, f64),
    /// The shadow's gain over always stating the base rate; `None` where nothing failed.
    pub skill: Option<f64>,
    /// Evidence that the shadow is better: 1 = none.
    pub evidence: f64,
}

impl Figures {
    fn of(account: &Account) -> Self {
        let both = |f: &dyn Fn(&Reliability) -> f64| (f(&account.champion), f(&account.shadow));
        let rows = account.champion.finish().rows;
        Self {
            within: account.within,
            rows,
            failures: account.failed,
            unknown: account.unknown,
            brier: both(&Reliability::brier),
            log_loss: both(&Reliability::log_loss),
            auprc: both(&Reliability::average_precision),
            ece: both(&Reliability::calibration_error),
            skill: account.shadow.finish().brier_skill,
            evidence: account.better.evidence(),
        }
    }

    /// In a line: the shadow's figures against the champion's.
    pub fn words(&self) -> String {
        format!(
            "within {}: Brier {:.5} against {:.5}, log loss {:.4} against {:.4}, average precision {:.3} against {:.3}, \
             calibration error {:.4} against {:.4}, on {} rows with {} failures ({} rows unknown), Brier skill {}, evidence {}",
            self.within.as_window(),
            self.brier.1,
            self.brier.0,
            self.log_loss.1,
            self.log_loss.0,
            self.auprc.1,
            self.auprc.0,
            self.ece.1,
            self.ece.0,
            self.rows,
            self.failures,
            self.unknown,
            self.skill.map_or_else(|| "unknown".into(), |skill| format!("{skill:.2}")),
            odds(self.evidence)
        )
    }
}

/// Evidence as people read it.
fn odds(evidence: f64) -> String {
    match evidence {
        e if e >= 1e6 => "over 1,000,000".into(),
        e if e >= 10.0 => format!("{e:.0}"),
        e => format!("{e:.2}"),
    }
}

impl Ledger {
    /// The figures, shortest window first.
    pub fn figures(&self) -> Vec<Figures> {
        self.accounts.iter().map(Figures::of).collect()
    }

    fn words(&self) -> String {
        self.figures().iter().filter(|f| f.rows > 0).map(Figures::words).collect::<Vec<_>>().join("; ")
    }

    /// Failures seen: of the window that saw most.
    pub fn failures(&self) -> u64 {
        self.accounts.iter().map(|a| a.failed).max().unwrap_or(0)
    }

    /// The mean over the windows is evidence as well.
    fn wager(&self, of: impl Fn(&Account) -> &Wager) -> f64 {
        mean(self.accounts.iter().map(|a| of(a).evidence()))
    }

    fn alarm(&self, of: impl Fn(&Account) -> &Alarm) -> f64 {
        mean(self.accounts.iter().map(|a| of(a).evidence()))
    }

    /// What follows where the shadow wants the champion's place.
    pub fn judge_challenger(&self, options: &ShadowOptions, now: Timestamp) -> Decision {
        let age = self.started.age(now);
        let (better, worse) = (self.wager(|a| &a.better), self.wager(|a| &a.worse));
        let failures = self.failures();
        let state = format!(
            "evidence {} of {} that it is better, {failures} of {} failures",
            odds(better),
            odds(options.certainty),
            options.least_failures
        );
        if age < options.at_least {
            return Decision::Wait(state);
        }
        if worse >= options.certainty {
            return Decision::Retire(format!(
                "it is worse (evidence {} of {}): {}",
                odds(worse),
                odds(options.certainty),
                self.words()
            ));
        }
        let enough = failures >= options.least_failures as u64;
        if enough && better >= options.certainty && self.figures().iter().all(no_worse) {
            return Decision::Promote(format!(
                "it is better on what happened since ({state}): {}",
                self.words()
            ));
        }
        if age >= options.at_most {
            return Decision::Retire(format!("not better within {age} ({state}): {}", self.words()));
        }
        Decision::Wait(state)
    }

    /// What follows where the shadow is the model that spoke before the champion.
    pub fn judge_former(&self, options: &ShadowOptions, now: Timestamp) -> Decision {
        let blocks = self.accounts.iter().map(|a| a.blocks).max().unwrap_or(0) as f64;
        let age = self.started.age(now).0.max(1) as f64;
        // Two alarms, each of which may ring wrongly.
        let threshold = 2.0 * (blocks * options.false_revert_every.0 as f64 / age).max(options.certainty);
        let overtaken = self.alarm(|a| &a.overtaken);
        let (under, over) = (self.alarm(|a| &a.under), self.alarm(|a| &a.over));
        let drift = (under + over) / 2.0;
        let what = if under > over {
            "more failed than twice what it stated"
        } else {
            "fewer failed than half of what it stated"
        };
        if overtaken >= threshold {
            return Decision::Revert(format!(
                "the model before does better now (evidence {} of {}): {}",
                odds(overtaken),
                odds(threshold),
                self.words()
            ));
        }
        if drift >= threshold {
            let why = format!("{what} (evidence {} of {}): {}", odds(drift), odds(threshold), self.words());
            return if overtaken > 1.0 { Decision::Revert(why) } else { Decision::Drifted(why) };
        }
        Decision::Wait(format!(
            "evidence {} of {} that the model before does better, {} of {} that it drifts",
            odds(overtaken),
            odds(threshold),
            odds(drift),
            odds(threshold)
        ))
    }
}

/// How far below the base rate's a Brier skill may lie by chance, of a head that states about that rate.
const ABOUT_BASE_RATE: f64 = 0.01;

/// A window in which nobody could fault the shadow: to be less bad than a bad champion is not enough. One that
/// states the base rate there, as an honest model without knowledge does, misleads nobody.
fn no_worse(figures: &Figures) -> bool {
    figures.rows == 0
        || (figures.skill.is_none_or(|skill| skill > -ABOUT_BASE_RATE)
            && figures.brier.1 <= figures.brier.0 * 1.02
            && figures.log_loss.1 <= figures.log_loss.0 * 1.05)
}

fn mean(all: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = all.fold((0.0, 0u32), |(s, n), e| (s + e, n + 1));
    sum / f64::from(count.max(1))
}
