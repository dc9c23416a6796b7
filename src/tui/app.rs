//! The one loop. It owns the model; input, answers, snapshots and time come to it as messages, frames
//! go to the writer. It never waits for the engine: questions run beside it and come back as messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::action::Kind;
use super::clipboard;
use super::error::ConsoleError;
use super::model::{Model, Moment, Screen, Tone};
use super::options::{ConsoleOptions, Mouse, environment};
use super::own_log;
use super::screens;
use super::terminal::guard::{self, Guard};
use super::terminal::tty::{FromTerminal, Terminal};
use super::terminal::{FrugalBackend, capabilities};
use super::update::{Effect, Msg, update};
use crate::protocol::{Actor, Command, Link, Mode, Refusal, Snapshot};

/// Why the console ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The person left.
    Quit,
    /// The terminal is gone (SSH was lost, the window was closed).
    Hangup,
    /// SIGTERM or SIGINT from outside, or the shutdown token.
    Stopped,
}

/// An engine that says nothing for this long is said not to answer.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// How long a stop may take to reach this thread.
const SUSPENDING: Duration = Duration::from_millis(200);

/// Runs a console over `link` until the person leaves, the terminal is gone, or it is told to stop.
/// The terminal is given back whatever happens.
///
/// # Errors
/// There is no terminal, or theme or keys make no sense.
pub async fn run(link: Arc<dyn Link>, options: ConsoleOptions, actor: Actor) -> Result<Exit, ConsoleError> {
    use std::io::IsTerminal;
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(ConsoleError::NoTerminal("standard input or output is no terminal"));
    }
    if !capabilities::full_screen(&environment) {
        return Err(ConsoleError::NoTerminal("TERM is unset or dumb"));
    }
    let (looks, look, wrong) = options.looks()?;
    let keymap = options.keymap()?;
    let mut snapshots = link.snapshots();
    let snapshot = snapshots.borrow_and_update().clone();
    let mut model = Model::new(snapshot, guard::size(), Arc::new(looks), keymap, actor);
    model.look = look;
    model.engine = options.engine;
    for error in wrong {
        model.say(Tone::Bad, error.to_string());
    }
    Guard::on_panic();
    let signals = Signals::new()?;
    let guard = Guard::take()?;
    let (terminal, said) = Terminal::start()?;
    let app = App {
        model,
        link,
        terminal,
        backend: FrugalBackend::new(),
        buffer: Buffer::empty(Rect::ZERO),
        began: Instant::now(),
        questions: JoinSet::new(),
        options,
        writing: false,
        dirty: Dirty::Key,
        drawn: Moment::default(),
        queue: Vec::new(),
    };
    let exit = app.until_the_end(signals, said, snapshots).await;
    drop(guard);
    Ok(exit)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    resize: Signal,
    suspend: Signal,
    resume: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            resize: signal(SignalKind::window_change())?,
            suspend: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: signal(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }
}

/// Whether the picture must be drawn anew, and how soon.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dirty {
    No,
    /// When the least gap between frames is over.
    Data,
    /// At once: a person waits.
    Key,
}

struct App {
    model: Model,
    link: Arc<dyn Link>,
    terminal: Terminal,
    backend: FrugalBackend,
    buffer: Buffer,
    began: Instant,
    questions: JoinSet<(Command, Result<crate::protocol::Reply, Refusal>)>,
    options: ConsoleOptions,
    /// A frame is with the writer.
    writing: bool,
    dirty: Dirty,
    drawn: Moment,
    /// Bytes that go before the next frame: mouse reports, clipboard.
    queue: Vec<u8>,
}

impl App {
    async fn until_the_end(
        mut self,
        mut signals: Signals,
        mut said: mpsc::Receiver<FromTerminal>,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Exit {
        if self.options.mouse == Mouse::On {
            self.model.mouse = true;
            self.mouse();
        }
        let shutdown = self.options.shutdown.clone();
        loop {
            self.draw();
            let wake = self.wake();
            let exit = tokio::select! {
                biased;
                () = shutdown.cancelled() => Some(Exit::Stopped),
                _ = signals.terminate.recv() => Some(Exit::Stopped),
                _ = signals.interrupt.recv() => Some(Exit::Stopped),
                _ = signals.hangup.recv() => Some(Exit::Hangup),
                _ = signals.resize.recv() => self.resized(),
                _ = signals.suspend.recv() => self.suspend(),
                _ = signals.resume.recv() => self.resumed(),
                from = said.recv() => self.terminal_said(from),
                Some(answer) = self.questions.join_next() => self.answered(answer),
                changed = snapshots.changed(), if !self.model.gone => match changed {
                    Ok(()) => {
                        let newest = snapshots.borrow_and_update().clone();
                        self.take(Msg::Snapshot(newest), Dirty::Data)
                    }
                    Err(_) => self.take(Msg::Gone, Dirty::Data),
                },
                () = own_log::news() => {
                    own_log::take();
                    self.logged()
                }
                () = tokio::time::sleep_until(wake.into()) => self.take(Msg::Tick, Dirty::Data),
            };
            if let Some(exit) = exit {
                // The reader may wait for room in the channel: without a receiver it ends.
                drop(said);
                self.questions.abort_all();
                return exit;
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// When something must be done next, though nothing happens.
    fn wake(&self) -> Instant {
        let mut at = self.model.next_tick();
        if self.dirty == Dirty::Data && !self.writing {
            at = at.min(self.drawn.after(self.options.pace.gap_ms()));
        }
        self.began + Duration::from_millis(at.0)
    }

    /// Something was logged: it is drawn where the log is on the screen, when the gap is over.
    fn logged(&mut self) -> Option<Exit> {
        if *self.model.screen() == Screen::Top(Kind::Log) {
            self.dirty = self.dirty.max(Dirty::Data);
        }
        None
    }

    fn take(&mut self, msg: Msg, dirty: Dirty) -> Option<Exit> {
        self.dirty = self.dirty.max(dirty);
        let now = self.now();
        let effects = update(&mut self.model, msg, now);
        let mut exit = None;
        for effect in effects {
            exit = self.perform(effect).or(exit);
        }
        exit
    }

    fn perform(&mut self, effect: Effect) -> Option<Exit> {
        match effect {
            Effect::Look(command) if !command.is_mutating() => self.ask(command),
            Effect::Look(command) => {
                tracing::error!(?command, "a question that changes something was not sent");
            }
            Effect::Perform(confirmed) => {
                // The engine refuses this too; here it does not even leave the console.
                if self.model.snapshot.mode == Mode::ReadOnly {
                    self.model.say(Tone::Bad, Refusal::ReadOnly.to_string());
                } else {
                    self.ask(confirmed.into_command());
                }
            }
            Effect::Copy(text) => match clipboard::copy(&text) {
                Some(bytes) => self.queue.extend_from_slice(&bytes),
                None => self.model.say(Tone::Bad, "too long for the terminal's clipboard"),
            },
            Effect::Repaint => self.backend.forget(),
            Effect::Mouse => self.mouse(),
            Effect::Suspend => return self.suspend(),
            Effect::Quit => return Some(Exit::Quit),
        }
        None
    }

    /// Asks the engine beside the loop; the answer comes back as a message.
    fn ask(&mut self, command: Command) {
        let link = Arc::clone(&self.link);
        let actor = self.model.actor.clone();
        self.questions.spawn(async move {
            let said = match tokio::time::timeout(PATIENCE, link.send(actor, command.clone())).await {
                Ok(said) => said,
                Err(_) => Err(Refusal::Unreachable {
                    detail: format!("no answer within {} ms", PATIENCE.as_millis()),
                }),
            };
            (command, said)
        });
    }

    fn answered(
        &mut self,
        answer: Result<(Command, Result<crate::protocol::Reply, Refusal>), tokio::task::JoinError>,
    ) -> Option<Exit> {
        match answer {
            Ok((asked, said)) => {
                self.take(Msg::Answer { asked: Box::new(asked), said: Box::new(said) }, Dirty::Key)
            }
            Err(error) => {
                tracing::error!(%error, "a question to the engine was lost");
                None
            }
        }
    }

    fn terminal_said(&mut self, from: Option<FromTerminal>) -> Option<Exit> {
        match from {
            Some(FromTerminal::Input(input)) => self.take(Msg::Input(input), Dirty::Key),
            Some(FromTerminal::Written) => {
                self.writing = false;
                None
            }
            Some(FromTerminal::Gone) | None => Some(Exit::Hangup),
        }
    }

    fn resized(&mut self) -> Option<Exit> {
        let (columns, rows) = guard::size();
        self.take(Msg::Resize(columns, rows), Dirty::Key)
    }

    fn mouse(&mut self) {
        let report: &[u8] =
            if self.model.mouse { b"\x1b[?1000h\x1b[?1006h" } else { b"\x1b[?1006l\x1b[?1000l" };
        self.queue.extend_from_slice(report);
    }

    /// Gives the terminal back, stops this process, and goes on where the shell lets it.
    fn suspend(&mut self) -> Option<Exit> {
        guard::give_back();
        let stopped = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
        if let Err(error) = stopped {
            self.model.say(Tone::Bad, format!("cannot be suspended: {error}"));
        }
        // The stop reaches the threads one after the other: without a pause this one would take
        // the terminal back before it stands still.
        std::thread::sleep(SUSPENDING);
        self.resumed()
    }

    /// Takes the terminal again after a stop; harmless where it was never given back.
    fn resumed(&mut self) -> Option<Exit> {
        match Guard::take() {
            // The guard of `run` gives it back at the end.
            Ok(guard) => std::mem::forget(guard),
            Err(_) => return Some(Exit::Hangup),
        }
        self.backend.forget();
        if self.model.mouse {
            self.mouse();
        }
        self.resized()
    }

    /// Draws if something changed, the writer is free, and a person waits or the gap is over.
    fn draw(&mut self) {
        let now = self.now();
        let due = match self.dirty {
            Dirty::No => false,
            Dirty::Data => now >= self.drawn.after(self.options.pace.gap_ms()),
            Dirty::Key => true,
        };
        if self.writing || (!due && self.queue.is_empty()) {
            return;
        }
        self.model.moment = self.model.moment.max(now);
        let (columns, rows) = self.model.size;
        let area = Rect::new(0, 0, columns, rows);
        if self.buffer.area == area {
            self.buffer.reset();
        } else {
            self.buffer = Buffer::empty(area);
        }
        screens::draw(&self.model, &mut self.buffer);
        let mut bytes = std::mem::take(&mut self.queue);
        bytes.extend_from_slice(self.backend.frame(&self.buffer));
        (self.dirty, self.drawn) = (Dirty::No, now);
        if !bytes.is_empty() {
            self.writing = self.terminal.write(bytes);
        }
    }
}
