//! Faults of the way to the system, at every call of the mover: lost before it is sent, lost after,
//! done but the answer is lost, slow, or a probe that cannot tell. By rule for tests that want one
//! at a certain call, or at random by seed.

use std::collections::BTreeMap;

use crate::fleet::rng::Random;
use crate::fleet::{Span, Timestamp};

/// What happens to one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallFault {
    /// It never leaves: certainly not done, try again.
    BeforeSend,
    /// It leaves and is lost: nobody knows; it was not done.
    AfterSend,
    /// It is done and the answer is lost: nobody knows; it was done.
    AfterEffect,
    /// The action takes this much longer.
    Slow(Span),
    /// A probe, status or measurement answers that nobody can tell.
    CannotTell,
    /// What is copied by it differs from the source (of `replicate`).
    Corrupt,
}

/// One rule: which calls are struck, and how.
#[derive(Clone, PartialEq, Debug)]
pub struct FaultRule {
    /// Name of the call (`prepare`, …, `probe`, `status`, `samples`, `leaks`, `discover`); empty =
    /// any.
    pub call: String,
    /// So many such calls are let through first.
    pub skip: u32,
    /// Then so many are struck.
    pub times: u32,
    /// How.
    pub fault: CallFault,
}

/// The faults in force.
#[derive(Clone, Debug, Default)]
pub struct MoverFaults {
    rules: Vec<FaultRule>,
    random: Option<(Random, f64)>,
    slowed: BTreeMap<String, Timestamp>,
    struck: u64,
}

impl MoverFaults {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// Every call is struck with probability `rate`, by seed.
    pub fn random(seed: u64, rate: f64) -> Self {
        Self { random: Some((Random::new(seed).fork("mover faults"), rate)), ..Self::default() }
    }

    /// Adds a rule.
    pub fn rule(&mut self, rule: FaultRule) {
        self.rules.push(rule);
    }

    /// Takes all faults away.
    pub fn clear(&mut self) {
        self.rules.clear();
        self.random = None;
    }

    /// How many calls were struck so far.
    pub fn struck(&self) -> u64 {
        self.struck
    }

    /// The fault of this call, if any.
    pub(crate) fn next(&mut self, call: &str) -> Option<CallFault> {
        let fault = self.by_rule(call).or_else(|| self.by_chance());
        self.struck += u64::from(fault.is_some());
        fault
    }

    fn by_rule(&mut self, call: &str) -> Option<CallFault> {
        for rule in &mut self.rules {
            if !rule.call.is_empty() && rule.call != call || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            return Some(rule.fault);
        }
        None
    }

    fn by_chance(&mut self) -> Option<CallFault> {
        let (random, rate) = self.random.as_mut()?;
        let (hit, which, long) = (random.chance(*rate), random.below(5), random.between(0.2, 8.0));
        hit.then(|| match which {
            0 => CallFault::BeforeSend,
            1 => CallFault::AfterSend,
            2 => CallFault::AfterEffect,
            3 => CallFault::Slow(Span::millis((long * 1000.0) as i64)),
            _ => CallFault::CannotTell,
        })
    }

    /// Begins or goes on with slowness of the action of that key; true while it lasts.
    pub(crate) fn slow(&mut self, key: String, by: Option<Span>, now: Timestamp) -> bool {
        if let Some(by) = by {
            self.slowed.entry(key.clone()).or_insert(now + by);
        }
        match self.slowed.get(&key) {
            Some(until) if now < *until => true,
            Some(_) => {
                self.slowed.remove(&key);
                false
            }
            None => false,
        }
    }
}
