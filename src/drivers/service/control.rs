//! Starts, stops and asks one service on one host, by its unit or its commands.

use super::command::{Ended, run};
use super::options::{Control, Service, ServiceOptions};
use crate::drivers::error::{DriverError, Retry};
use crate::fleet::{Epoch, HostId, WorkloadId};

/// Whether a service runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Runs {
    Yes,
    /// It is being started or stopped; the word says which.
    Changing(String),
    No,
}

/// What is asked of the control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Start,
    Stop,
    Status,
    /// Start it when the host starts.
    Enable,
    /// Do not.
    Disable,
}

/// One service on one host.
#[derive(Clone, Copy)]
pub(super) struct Controlled<'a> {
    pub(super) options: &'a ServiceOptions,
    pub(super) id: &'a WorkloadId,
    pub(super) service: &'a Service,
    pub(super) host: &'a HostId,
}

impl Controlled<'_> {
    /// The words that carry `order` out; none where there is no such command.
    pub(super) fn words(&self, order: Order, epoch: Option<Epoch>) -> Option<Vec<String>> {
        let own: Vec<String> = match (&self.service.control, order) {
            (Control::Unit(unit), order) => {
                let verb: &[&str] = match order {
                    Order::Start => &["start", "--no-block"],
                    Order::Stop => &["stop", "--no-block"],
                    Order::Status => &["is-active"],
                    Order::Enable => &["enable", "--quiet"],
                    Order::Disable => &["disable", "--quiet"],
                };
                ["systemctl"].iter().chain(verb).map(|w| (*w).to_string()).chain([unit.clone()]).collect()
            }
            (Control::Commands { start, .. }, Order::Start) => start.clone(),
            (Control::Commands { stop, .. }, Order::Stop) => stop.clone(),
            (Control::Commands { status, .. }, Order::Status) => status.clone(),
            (Control::Commands { .. }, Order::Enable | Order::Disable) => return None,
        };
        let epoch = epoch.map_or_else(|| "0".to_string(), |e| e.0.to_string());
        let fill = |word: &String| {
            word.replace("{host}", self.host.as_str())
                .replace("{service}", self.id.as_str())
                .replace("{epoch}", &epoch)
        };
        Some(self.options.via.iter().chain(&own).map(fill).collect())
    }

    async fn carry_out(
        &self,
        order: Order,
        epoch: Option<Epoch>,
        late: Retry,
    ) -> Result<Option<Ended>, DriverError> {
        let Some(words) = self.words(order, epoch) else { return Ok(None) };
        let epoch = epoch.map_or_else(String::new, |e| e.0.to_string());
        let names = [
            ("FORESHIFT_HOST", self.host.as_str()),
            ("FORESHIFT_SERVICE", self.id.as_str()),
            ("FORESHIFT_EPOCH", epoch.as_str()),
        ];
        run(&words, &names, self.options.command_timeout, late).await.map(Some).map_err(|mut error| {
            error.system = self.system();
            error
        })
    }

    /// Asks whether it runs.
    ///
    /// # Errors
    /// Where the host does not answer, or the answer says neither.
    pub(super) async fn runs(&self) -> Result<Runs, DriverError> {
        let Some(ended) = self.carry_out(Order::Status, None, Retry::Retryable).await? else {
            return Err(self.error(Retry::Permanent, "status", "there is no command for it".into()));
        };
        let runs = match &self.service.control {
            Control::Unit(_) => unit_runs(ended.said.trim()),
            Control::Commands { .. } => match ended.status.code() {
                Some(0) => Some(Runs::Yes),
                Some(1..=3) => Some(Runs::No),
                _ => None,
            },
        };
        runs.ok_or_else(|| {
            let hint = match ended.status.code() {
                Some(255) if !self.options.via.is_empty() => {
                    "; can this user log in there without a password?"
                }
                _ => "",
            };
            self.error(Retry::Retryable, "status", format!("{}{hint}", ended.words()))
        })
    }

    /// Starts or stops it; soon back, and true only once [`Controlled::runs`] says so.
    ///
    /// # Errors
    /// Unknown where the command did not end in time; as the command says, where it failed.
    pub(super) async fn order(&self, order: Order, epoch: Epoch) -> Result<(), DriverError> {
        match self.carry_out(order, Some(epoch), Retry::Unknown).await? {
            Some(ended) if !ended.status.success() => {
                let doing = format!("{order:?}").to_lowercase();
                Err(self.error(Retry::Retryable, &doing, ended.words()))
            }
            _ => Ok(()),
        }
    }

    fn system(&self) -> String {
        format!("service {} on {}", self.id, self.host)
    }

    pub(super) fn error(&self, retry: Retry, doing: &str, detail: String) -> DriverError {
        DriverError::new(retry, self.system(), doing, detail)
    }
}

/// The word of `systemctl is-active` (systemd, unit states).
fn unit_runs(word: &str) -> Option<Runs> {
    match word {
        "active" => Some(Runs::Yes),
        "activating" | "reloading" | "refreshing" | "deactivating" => Some(Runs::Changing(word.to_string())),
        "inactive" | "failed" => Some(Runs::No),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Span;

    #[test]
    fn a_unit_is_reached_through_the_way_there_and_names_are_filled_in() {
        let unit = Service { control: Control::Unit("api.service".into()), health: String::new() };
        let by_hand = Service {
            control: Control::Commands {
                start: vec!["run".into(), "{service}@{host}".into(), "--epoch={epoch}".into()],
                stop: vec!["halt".into()],
                status: vec!["look".into()],
            },
            health: String::new(),
        };
        let host = HostId::from("web-2");
        let id = WorkloadId::from("api");
        let mut options = ServiceOptions::new("web", [host.clone()], []);
        options.via = ["ssh", "{host}"].map(String::from).to_vec();
        options.stop_within = Span::seconds(1);
        let words = |service: &Service, order| {
            let controlled = Controlled { options: &options, id: &id, service, host: &host };
            controlled.words(order, Some(Epoch(7))).map(|w| w.join(" "))
        };
        assert_eq!(words(&unit, Order::Stop).unwrap(), "ssh web-2 systemctl stop --no-block api.service");
        assert_eq!(words(&unit, Order::Enable).unwrap(), "ssh web-2 systemctl enable --quiet api.service");
        assert_eq!(words(&by_hand, Order::Start).unwrap(), "ssh web-2 run api@web-2 --epoch=7");
        assert_eq!(words(&by_hand, Order::Enable), None);
    }

    #[test]
    fn a_unit_that_is_being_stopped_is_not_stopped() {
        assert_eq!(unit_runs("deactivating"), Some(Runs::Changing("deactivating".into())));
        assert_eq!(unit_runs("failed"), Some(Runs::No));
        assert_eq!(unit_runs("active"), Some(Runs::Yes));
        assert_eq!(unit_runs("unknown"), None);
        assert_eq!(unit_runs(""), None);
    }
}
