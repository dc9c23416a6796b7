//! `--read-only`: nothing is changed, ever. What each command does to the world is said here once, and a command
//! that changes something is refused before anything is opened. What looks at an engine gets one that cannot act:
//! its own starts read-only and makes no permit, and to one that runs elsewhere nothing is sent that changes
//! something.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Command, RunArgs, failures, versions};
use crate::protocol::{Actor, Link, Mode, Refusal, Reply, Snapshot};

/// What a command does to the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Reads and prints, plays in memory, or shows an engine that can itself be read-only.
    Looks,
    /// Changes something; why, as half a sentence.
    Changes(&'static str),
}

/// What the command does. No arm stands for what is not named, so that a new command has to say it.
pub(super) fn effect(command: Option<&Command>) -> Effect {
    use Effect::{Changes, Looks};
    let Some(command) = command else { return Looks };
    match command {
        Command::Attach(_)
        | Command::Backtest(_)
        | Command::Bench(_)
        | Command::Check(_)
        | Command::CheckModel(_)
        | Command::Demo(_)
        | Command::Eval(_)
        | Command::Journal(_)
        | Command::Simulate(_)
        | Command::Why(_) => Looks,
        Command::Agent(args) if args.once => Looks,
        Command::Agent(_) => Changes("the agent writes its spool and sends; `agent --once` only looks"),
        Command::Decommission(_) => Changes("`decommission` says for good what is watched"),
        Command::Evacuate(args) if args.dry_run => Looks,
        Command::Evacuate(_) => Changes("`evacuate` moves workloads; with --dry-run it only plans"),
        Command::Failures(args) => match args.act {
            failures::Act::Add { .. } | failures::Act::Import { .. } | failures::Act::Correct { .. } => {
                Changes("this writes into the failure history")
            }
            failures::Act::List { .. } | failures::Act::Export => Looks,
        },
        Command::Leaks(args) if args.remove => Changes("`leaks --remove` removes what it finds"),
        Command::Leaks(_) => Changes(
            "`leaks` takes the lead in the journal to keep it still; `check` lists artifacts without that",
        ),
        Command::Models(args) => match args.act {
            versions::Act::Promote { .. } | versions::Act::Shadow { .. } | versions::Act::Revert => {
                Changes("this changes which model speaks")
            }
            versions::Act::List { .. } => Looks,
        },
        Command::Train(_) => Changes("`train` writes models"),
    }
}

/// Whether this run may change something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hands {
    /// It may.
    Free,
    /// `--read-only`: it may not.
    Tied,
}

impl RunArgs {
    /// What `--read-only` says.
    pub fn hands(&self) -> Hands {
        if self.read_only { Hands::Tied } else { Hands::Free }
    }
}

/// A link that sends nothing that changes something; its snapshots show a read-only engine, as far as this
/// console goes.
pub(super) struct Tied {
    engine: Arc<dyn Link>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Tied {
    /// Ties the hands of whoever asks over `engine`; needs a runtime.
    pub(super) fn new(engine: Arc<dyn Link>) -> Self {
        let mut theirs = engine.snapshots();
        let first = shown(&theirs.borrow_and_update().clone());
        let (publish, snapshots) = watch::channel(first);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = theirs.changed() => if changed.is_err() { return },
                    () = publish.closed() => return,
                }
                let newest = theirs.borrow_and_update().clone();
                publish.send_replace(shown(&newest));
            }
        });
        Self { engine, snapshots }
    }
}

fn shown(snapshot: &Snapshot) -> Arc<Snapshot> {
    Arc::new(Snapshot { mode: Mode::ReadOnly, ..snapshot.clone() })
}

#[async_trait]
impl Link for Tied {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    async fn send(&self, actor: Actor, command: crate::protocol::Command) -> Result<Reply, Refusal> {
        if command.is_mutating() {
            return Err(Refusal::ReadOnly);
        }
        self.engine.send(actor, command).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::protocol::{Command as Asked, Role};

    /// An engine in automatic mode that notes what it is asked.
    struct Willing {
        asked: Mutex<Vec<Asked>>,
        publish: watch::Sender<Arc<Snapshot>>,
    }

    #[async_trait]
    impl Link for Willing {
        fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
            self.publish.subscribe()
        }

        async fn send(&self, _: Actor, command: Asked) -> Result<Reply, Refusal> {
            self.asked.lock().unwrap().push(command);
            Ok(Reply::Done { said: "done".into() })
        }
    }

    #[tokio::test]
    async fn a_tied_link_shows_read_only_and_lets_questions_alone_through() {
        let first = Arc::new(Snapshot { mode: Mode::Auto, ..Snapshot::default() });
        let engine = Arc::new(Willing { asked: Mutex::default(), publish: watch::channel(first).0 });
        let tied = Tied::new(engine.clone());
        let mut snapshots = tied.snapshots();
        assert_eq!(snapshots.borrow_and_update().mode, Mode::ReadOnly);
        let me = Actor { name: "me".into(), role: Role::Admin };
        for command in [Asked::StopEverything, Asked::SetMode { mode: Mode::Advise }, Asked::RevertModels] {
            assert_eq!(tied.send(me.clone(), command).await, Err(Refusal::ReadOnly));
        }
        assert!(engine.asked.lock().unwrap().is_empty(), "nothing reaches the engine");
        tied.send(me, Asked::Why { subject: "w".into() }).await.unwrap();
        assert_eq!(engine.asked.lock().unwrap().len(), 1);

        engine.publish.send_replace(Arc::new(Snapshot {
            sequence: 2,
            mode: Mode::Auto,
            ..Snapshot::default()
        }));
        snapshots.changed().await.unwrap();
        let newest = snapshots.borrow().clone();
        assert_eq!((newest.sequence, newest.mode), (2, Mode::ReadOnly));
    }
}
