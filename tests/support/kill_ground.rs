//! Where engines are killed: a system with a workload, a client that writes, and what has to hold when
//! everything is over.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::mortal::{Blow, Errand, Mortal, Person, Place, System};
use crate::trouble::Trouble;

const ENGINE: &str = "the_engine_in_a_process_of_its_own";
/// One engine's way to the end of a move.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than writes are held at a cut, and than a failover may take.
const FROZEN: Duration = Duration::from_millis(2_500);

/// What does not come to pass wherever it is, and why.
pub const ROUTE: (&str, &str) = ("Route)", "no router stands before a system with data");
/// The same.
pub const SOURCE_LOST: (&str, &str) = ("SourceLost", "the servers live; tests/*_driver.rs kill them");
/// The same.
pub const STUCK: (&str, &str) = ("(Stuck", "every probe is answered; tests/tcp_faults.rs keeps answers back");

/// What a client saw during one round.
pub struct Written {
    /// Acknowledged.
    pub acknowledged: u64,
    /// The answer was lost.
    pub unknown: u64,
}

/// A system with a workload.
pub trait Ground {
    /// A client that writes.
    type Client;
    /// As the engine knows it.
    fn system(&self) -> System;
    /// Who owns the workload, as soon as it is certain.
    async fn owner(&self) -> Result<String, String>;
    /// Where it is to go in this round.
    async fn other(&mut self, round: u64, owner: &str) -> String;
    /// Starts a client.
    fn write(&self, owner: &str) -> Self::Client;
    /// Ends it.
    async fn written(&self, client: Self::Client) -> Written;
    /// How many writes are there.
    async fn count(&self, owner: &str) -> u64;
    /// What is left of migrations.
    async fn left(&self) -> Vec<String>;
}

/// How a move goes but for engines that are stopped.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What a person does.
    pub person: Person,
    /// What goes otherwise than usual.
    pub trouble: Trouble,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.trouble == Trouble::NONE {
            true => write!(f, "{:?}", self.person),
            false => write!(f, "{:?} with {}", self.person, self.trouble.words()),
        }
    }
}

/// One blow.
#[derive(Clone, Debug)]
pub struct Stroke {
    /// Where.
    pub place: Place,
    /// How.
    pub blow: Blow,
}

/// A moment that an engine came to.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// What of the registry it is.
    pub occasions: Vec<String>,
}

/// What came of a round.
#[derive(Debug)]
pub struct Ended {
    /// Where engines were stopped.
    pub struck: Vec<Told>,
    /// What each engine came to, one after another.
    pub told: Vec<Vec<Told>>,
    /// How the migration ended; `None` = it was never begun.
    pub end: Option<String>,
}

/// A ground with a journal.
pub struct Site<G> {
    ground: G,
    folder: tempfile::TempDir,
    rounds: u64,
    moved: u64,
    longest: Duration,
    acknowledged: u64,
    stores: u32,
}

impl<G: Ground> Site<G> {
    /// A new journal.
    pub fn new(ground: G) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { ground, folder, rounds: 0, moved: 0, longest: Duration::ZERO, acknowledged: 0, stores: 0 }
    }

    /// In words.
    pub fn summary(&self) -> String {
        format!(
            "{} rounds, {} of them moved the workload, longest {:?}, {} writes acknowledged, 0 lost",
            self.rounds, self.moved, self.longest, self.acknowledged
        )
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join(format!("state{}.redb", self.stores))
    }

    /// Moves the workload once, with each engine stopped as `strokes` say, one after another; the one
    /// after the last is left alone.
    ///
    /// # Errors
    /// What does not hold at the end.
    pub async fn round(&mut self, scenario: Scenario, strokes: &[Stroke]) -> Result<Ended, String> {
        self.rounds += 1;
        let start = Instant::now();
        let from = self.ground.owner().await?;
        let to = self.ground.other(self.rounds, &from).await;
        let before = self.ground.count(&from).await;
        let client = self.ground.write(&from);
        for once in ["differed", "differed.there", "differed.back"] {
            let _ = std::fs::remove_file(self.folder.path().join(once));
        }
        let played = self.play(scenario, strokes, (&from, &to)).await;
        let written = self.ground.written(client).await;
        let doing = format!("round {}, {scenario}, {strokes:?}, {from} → {to}", self.rounds);
        let (ended, log) = played.map_err(|e| format!("{doing}: {e}"))?;
        let fail = |what: String| Err(format!("{doing}: {what}\n{ended:?}\n{log}"));
        let owner = match self.ground.owner().await {
            Ok(owner) => owner,
            Err(error) => return fail(error),
        };
        let moved = owner == to;
        if moved != (ended.end.as_deref() == Some("done")) || (!moved && owner != from) {
            return fail(format!("it ended as {:?}, and {owner} owns it", ended.end));
        }
        let left = self.ground.left().await;
        if !left.is_empty() {
            return fail(format!("left behind: {left:?}"));
        }
        let there = self.ground.count(&owner).await - before;
        if !(written.acknowledged..=written.acknowledged + written.unknown).contains(&there) {
            let Written { acknowledged, unknown } = written;
            return fail(format!("{acknowledged} acknowledged, {unknown} unknown, {there} are there"));
        }
        self.acknowledged += written.acknowledged;
        self.moved += u64::from(moved);
        self.longest = self.longest.max(start.elapsed());
        let at: Vec<&str> = ended.struck.iter().map(|t| t.name.as_str()).collect();
        let end = ended.end.as_deref().unwrap_or("never begun");
        let how = strokes.first().map_or("left alone", |s| match s.blow {
            Blow::Kill => "killed",
            Blow::Freeze => "frozen",
        });
        println!(
            "{:>4} {:>5.1} s  {scenario} {how} {}: {end}, {there} writes",
            self.rounds,
            start.elapsed().as_secs_f64(),
            at.join(", then ")
        );
        Ok(ended)
    }

    async fn play(
        &self,
        scenario: Scenario,
        strokes: &[Stroke],
        (from, to): (&str, &str),
    ) -> Result<(Ended, String), String> {
        let mut told = Vec::new();
        let (mut struck, mut log) = (Vec::new(), String::new());
        for number in 0..=strokes.len() {
            let stroke = strokes.get(number);
            let errand = Errand {
                store: self.store(),
                system: self.ground.system(),
                from: from.to_string(),
                to: (number == 0).then(|| to.to_string()),
                proposal: self.rounds,
                person: scenario.person,
                trouble: scenario.trouble,
                differed: self.folder.path().join("differed"),
                at: stroke.map(|s| (s.place.clone(), s.blow)),
                told: self.folder.path().join("told"),
            };
            let mut engine = Mortal::start(ENGINE, errand, self.folder.path());
            struck.extend(self.frozen(&mut engine, stroke)?);
            let status = engine.wait(PATIENCE)?;
            let lines = engine.told();
            let end = lines.iter().rev().find_map(|l| l.strip_prefix("end ")).map(str::to_string);
            let came: Vec<Told> = lines.iter().filter_map(|line| read(line)).collect();
            log.push_str(&format!("--- engine {number}:\n{}", engine.log()));
            match (status.success(), status.signal()) {
                (false, Some(9)) if stroke.is_some() => {
                    struck.extend(came.last().cloned());
                    told.push(came);
                }
                (true, _) => {
                    told.push(came);
                    return Ok((Ended { struck, told, end }, log));
                }
                _ => return Err(format!("the engine ended with {status}:\n{log}")),
            }
        }
        Err("the last engine was killed by somebody else".to_string())
    }

    /// Lets a frozen engine stand for a while.
    fn frozen(&self, engine: &mut Mortal, stroke: Option<&Stroke>) -> Result<Option<Told>, String> {
        if stroke.is_none_or(|s| s.blow != Blow::Freeze) {
            return Ok(None);
        }
        let start = Instant::now();
        while !engine.is_frozen() {
            if engine.has_ended() {
                return Ok(None);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("the engine neither froze nor ended:\n{}", engine.log()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let place = engine.told().last().and_then(|line| read(line));
        std::thread::sleep(FROZEN);
        engine.thaw();
        Ok(place)
    }

    /// After something went wrong: what is left is ended with a new journal.
    pub async fn heal(&mut self) {
        self.stores += 1;
    }

    /// The journals' chains are whole.
    pub async fn finish(&self) {
        use foreshift::cli::journal::{JournalArgs, What, run};
        for n in 0..=self.stores {
            let store = self.folder.path().join(format!("state{n}.redb"));
            let mut out = Vec::new();
            let args = JournalArgs { what: What::Verify { migration: None }, store: Some(store) };
            run(&args, &mut out).expect("a journal");
            let said = String::from_utf8_lossy(&out).into_owned();
            assert!(said.contains(" 0 broken"), "{said}");
            println!("{}", said.lines().last().unwrap_or_default());
        }
    }
}

fn read(line: &str) -> Option<Told> {
    let (name, occasions) = line.split_once('\t')?;
    Some(Told { name: name.to_string(), occasions: occasions.split(';').map(str::to_string).collect() })
}
