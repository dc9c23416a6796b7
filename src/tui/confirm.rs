//! What stands between a key and a change: a popup that says what will happen, in tiers. Only this
//! file can make a [`Confirmed`], and only a `Confirmed` is carried out, so no screen can skip it.

use super::key::{Code, Key};
use super::model::Moment;
use crate::protocol::Command;

/// How much stands between the key and the change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tier {
    /// Reversible in seconds: enter.
    Light,
    /// Costs something: `y`, then enter; cancel is the default.
    Weighed,
    /// Far-reaching: the name must be typed.
    Typed(String),
    /// Touches several hosts at once: the name must be typed, and why, which the audit log keeps.
    Accounted(String),
}

impl Tier {
    /// The name that must be typed, if one must.
    pub fn name(&self) -> Option<&str> {
        match self {
            Tier::Typed(name) | Tier::Accounted(name) => Some(name),
            Tier::Light | Tier::Weighed => None,
        }
    }
}

/// Where typed characters go while both a name and a reason are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Field {
    /// The name.
    #[default]
    Name,
    /// The reason.
    Reason,
}

/// A command that a person has confirmed. It cannot be made anywhere else.
#[derive(Clone, PartialEq, Debug)]
pub struct Confirmed(Command);

impl Confirmed {
    /// What was confirmed.
    pub fn command(&self) -> &Command {
        &self.0
    }

    /// What was confirmed.
    pub fn into_command(self) -> Command {
        self.0
    }
}

/// What happens when it is confirmed.
#[derive(Clone, PartialEq, Debug)]
pub enum Then {
    /// The engine is asked.
    Ask(Command),
    /// The console ends.
    Quit,
    /// The console is suspended, and the engine in it.
    Suspend,
}

/// An open confirmation.
#[derive(Clone, PartialEq, Debug)]
pub struct Confirm {
    /// What it is, in a few words: `approve P-218`.
    pub title: String,
    /// The verb on the button: `approve`.
    pub verb: String,
    /// What will happen, a sentence a line.
    pub says: Vec<String>,
    /// How much stands in between.
    pub tier: Tier,
    /// What happens then.
    pub then: Then,
    /// A reason can be typed; it goes into the journal.
    pub reason: Option<String>,
    /// What was typed of the name.
    pub typed: String,
    /// Which of name and reason is being typed.
    pub at: Field,
    /// The confirming button has the focus.
    pub ready: bool,
    /// When it was opened: keys typed ahead do not count.
    pub opened: Moment,
    /// What is still missing, after enter was pressed too early.
    pub hint: Option<String>,
}

/// What a key did to a confirmation.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It is still open.
    Open,
    /// It was cancelled.
    Cancelled,
    /// It was confirmed: ask the engine.
    Perform(Confirmed),
    /// It was confirmed: quit.
    Quit,
    /// It was confirmed: suspend.
    Suspend,
}

/// Keys within this time after opening were meant for something else (type-ahead).
pub const DISARMED_MS: u64 = 300;

impl Confirm {
    /// A confirmation of `then`.
    pub fn new(title: impl Into<String>, verb: &str, tier: Tier, then: Then, opened: Moment) -> Self {
        Self {
            title: title.into(),
            verb: verb.to_string(),
            says: Vec::new(),
            ready: tier == Tier::Light,
            reason: matches!(tier, Tier::Accounted(_)).then(String::new),
            tier,
            then,
            typed: String::new(),
            at: Field::Name,
            opened,
            hint: None,
        }
    }

    /// Adds a sentence about what will happen.
    pub fn say(mut self, sentence: impl Into<String>) -> Self {
        self.says.push(sentence.into());
        self
    }

    /// Takes a reason for the journal.
    pub fn with_reason(mut self) -> Self {
        self.reason = Some(String::new());
        self
    }

    /// Whether keys count: not for a moment after it has opened.
    pub fn armed(&self, now: Moment) -> bool {
        now.since(self.opened) >= DISARMED_MS
    }

    /// What a key does.
    pub fn press(&mut self, key: Key, now: Moment) -> Answer {
        if key.code == Code::Esc || key == Key::ctrl('c') {
            return Answer::Cancelled;
        }
        if !self.armed(now) {
            return Answer::Open;
        }
        self.hint = None;
        if key.code == Code::Enter {
            return self.enter();
        }
        if matches!(key.code, Code::Tab | Code::BackTab | Code::Up | Code::Down) && self.two_fields() {
            self.at = if self.at == Field::Name { Field::Reason } else { Field::Name };
            return Answer::Open;
        }
        if let Some(field) = self.field() {
            match key.code {
                Code::Backspace => drop(field.pop()),
                Code::Char('u') if key.ctrl => field.clear(),
                Code::Char(c) if !key.ctrl && !key.alt && field.chars().count() < 200 => field.push(c),
                _ => {}
            }
            return Answer::Open;
        }
        match key.code {
            Code::Char('n' | 'q') => return Answer::Cancelled,
            Code::Char('y') => self.ready = true,
            Code::Tab | Code::BackTab | Code::Left | Code::Right | Code::Char('h' | 'l') => {
                self.ready = !self.ready
            }
            _ => {}
        }
        Answer::Open
    }

    /// Pasted text goes into a field that is being typed in, and nowhere else.
    pub fn paste(&mut self, text: &str) {
        if let Some(field) = self.field() {
            let line: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            field.push_str(&line);
        }
    }

    fn two_fields(&self) -> bool {
        matches!(self.tier, Tier::Accounted(_))
    }

    /// The field that is being typed in.
    fn field(&mut self) -> Option<&mut String> {
        match (&self.tier, self.at) {
            (Tier::Typed(_), _) | (Tier::Accounted(_), Field::Name) => Some(&mut self.typed),
            _ => self.reason.as_mut(),
        }
    }

    /// Whether enter confirms now.
    pub fn complete(&self) -> bool {
        let named = self.tier.name().map_or(self.ready, |name| self.typed.trim() == name);
        let said = self.reason.as_ref().is_some_and(|reason| !reason.trim().is_empty());
        named && (said || !self.two_fields())
    }

    /// Says what is missing and goes there.
    fn ask_for_the_rest(&mut self, name: &str) -> Answer {
        if self.typed.trim() != name {
            self.hint = Some(format!("type {name} to {}", self.verb));
            self.at = Field::Name;
        } else {
            if self.at == Field::Reason {
                self.hint =
                    Some("say why: several hosts are touched at once, and the audit log keeps it".into());
            }
            self.at = Field::Reason;
        }
        Answer::Open
    }

    fn enter(&mut self) -> Answer {
        if let Some(name) = self.tier.name().map(str::to_string) {
            if !self.complete() {
                return self.ask_for_the_rest(&name);
            }
        } else if !self.ready {
            return Answer::Cancelled;
        }
        match self.then.clone() {
            Then::Quit => Answer::Quit,
            Then::Suspend => Answer::Suspend,
            Then::Ask(mut command) => {
                let why = match &mut command {
                    Command::Approve { reason, .. } | Command::Reject { reason, .. } => Some(reason),
                    Command::RecordFailure { cause, .. } => Some(cause),
                    Command::Decommission { reason, .. } => Some(reason),
                    _ => None,
                };
                if let (Some(why), Some(typed)) = (why, &self.reason) {
                    *why = typed.trim().to_string();
                }
                Answer::Perform(Confirmed(command))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Moment = Moment(1_000);

    fn confirm(tier: Tier) -> Confirm {
        Confirm::new("t", "stop", tier, Then::Ask(Command::StopEverything), Moment(0))
    }

    fn press(confirm: &mut Confirm, script: &str) -> Answer {
        let keys = crate::tui::key::parse_script(script).unwrap();
        keys.into_iter().map(|k| confirm.press(k, LATER)).last().unwrap()
    }

    #[test]
    fn cancel_is_the_default_of_what_costs_something() {
        assert_eq!(press(&mut confirm(Tier::Weighed), "<enter>"), Answer::Cancelled);
        assert!(matches!(press(&mut confirm(Tier::Weighed), "y<enter>"), Answer::Perform(_)));
        assert_eq!(press(&mut confirm(Tier::Weighed), "yn"), Answer::Cancelled);
    }

    #[test]
    fn keys_typed_ahead_do_not_confirm() {
        let mut c = confirm(Tier::Light);
        assert_eq!(c.press(Key::plain(Code::Enter), Moment(DISARMED_MS - 1)), Answer::Open);
        assert!(matches!(c.press(Key::plain(Code::Enter), Moment(DISARMED_MS)), Answer::Perform(_)));
    }

    #[test]
    fn what_reaches_far_needs_its_name() {
        let mut c = confirm(Tier::Typed("prod-eu".into()));
        assert_eq!(press(&mut c, "y<enter>"), Answer::Open);
        assert_eq!(c.hint.as_deref(), Some("type prod-eu to stop"));
        assert!(matches!(press(&mut c, "<C-u>prod-eu<enter>"), Answer::Perform(_)));
    }

    #[test]
    fn what_touches_several_hosts_needs_its_name_and_a_reason() {
        let mut c = confirm(Tier::Accounted("P-7".into()));
        assert_eq!(press(&mut c, "<enter>"), Answer::Open);
        assert_eq!(c.hint.as_deref(), Some("type P-7 to stop"));
        assert_eq!(press(&mut c, "P-7<enter>"), Answer::Open);
        assert_eq!(press(&mut c, "<enter>"), Answer::Open, "a name alone is not enough");
        assert!(c.hint.as_deref().is_some_and(|hint| hint.starts_with("say why")));
        assert_eq!(press(&mut c, "rack loses power"), Answer::Open);
        assert_eq!(c.reason.as_deref(), Some("rack loses power"));
        assert!(c.complete());
        assert!(matches!(press(&mut c, "<tab><enter>"), Answer::Perform(_)));
    }

    #[test]
    fn pasted_text_confirms_nothing() {
        let mut c = confirm(Tier::Weighed);
        c.paste("y\r");
        assert!(!c.ready);
    }
}
