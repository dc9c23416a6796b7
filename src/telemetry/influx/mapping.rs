//! How measurements and fields become canonical metrics. What Telegraf's standard inputs and our own
//! agent write is known here; a user adds or replaces rules by measurement.

/// What is made of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Derive {
    /// The mean of its values in a step.
    Mean,
    /// It only grows: its growth per second; a reset is a gap.
    Rate,
    /// It only grows, and so does the field `per`: growth of the one by growth of the other, for
    /// example milliseconds spent writing by writes.
    RateBy {
        /// The field that is divided by.
        per: &'static str,
    },
}

/// How the values of several instances on one host (disks, interfaces, sensors) become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combine {
    /// The greatest: one slow disk is enough.
    Max,
    /// Their sum; an instance that is a part of another (`sda1` of `sda`) is left out.
    Sum,
    /// Their mean.
    Mean,
}

/// One field of a measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct FieldRule {
    /// Its key.
    pub field: String,
    /// The metric it becomes, canonical or own.
    pub metric: String,
    /// What is made of it.
    pub derive: Derive,
    /// How instances become one.
    pub combine: Combine,
    /// The metric is `value × scale + offset`.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
}

/// One measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Its name.
    pub measurement: String,
    /// Only series with these tags, key and value.
    pub only: Vec<(String, String)>,
    /// The tag that tells instances on one host apart; `None` = there is one.
    pub instance: Option<String>,
    /// Instances whose name begins so are left out.
    pub skip: Vec<String>,
    /// Its fields; empty = every field is a metric of its own name (our agent writes so).
    pub fields: Vec<FieldRule>,
}

/// The measurement that our own agent writes: canonical names are its fields.
pub const AGENT_MEASUREMENT: &str = "foreshift_agent";

impl FieldRule {
    /// The mean of a field under a metric's name; instances give the greatest.
    pub fn mean(field: &str, metric: &str) -> Self {
        Self {
            field: field.into(),
            metric: metric.into(),
            derive: Derive::Mean,
            combine: Combine::Max,
            scale: 1.0,
            offset: 0.0,
        }
    }

    fn rate(field: &str, metric: &str) -> Self {
        Self { derive: Derive::Rate, combine: Combine::Sum, ..Self::mean(field, metric) }
    }

    fn rate_by(field: &str, per: &'static str, metric: &str) -> Self {
        Self { derive: Derive::RateBy { per }, ..Self::mean(field, metric) }
    }
}

impl Rule {
    /// A measurement with one instance a host.
    pub fn new(measurement: &str, fields: Vec<FieldRule>) -> Self {
        Self { measurement: measurement.into(), only: Vec::new(), instance: None, skip: Vec::new(), fields }
    }

    fn only(mut self, tag: &str, value: &str) -> Self {
        self.only.push((tag.into(), value.into()));
        self
    }

    fn by(mut self, instance: &str, skip: &[&str]) -> Self {
        self.instance = Some(instance.into());
        self.skip = skip.iter().map(ToString::to_string).collect();
        self
    }

    /// Whether a field is read as a counter.
    pub(super) fn has_counters(&self) -> bool {
        self.fields.iter().any(|f| f.derive != Derive::Mean)
    }

    /// Whether a field is read as a gauge.
    pub(super) fn has_gauges(&self) -> bool {
        self.fields.is_empty() || self.fields.iter().any(|f| f.derive == Derive::Mean)
    }

    /// The keys of the fields that a query has to ask for.
    pub(super) fn field_keys(&self, counters: Kind) -> Vec<&str> {
        let mut keys: Vec<&str> = Vec::new();
        for rule in self.fields.iter().filter(|f| Kind::of(f.derive) == counters) {
            keys.push(&rule.field);
            if let Derive::RateBy { per } = rule.derive {
                keys.push(per);
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// Gauges and counters are asked for in queries of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The mean of a step.
    Gauge,
    /// The growth per second since the step before.
    Counter,
}

impl Kind {
    fn of(derive: Derive) -> Self {
        if derive == Derive::Mean { Kind::Gauge } else { Kind::Counter }
    }
}

/// What Telegraf's standard inputs (`cpu mem disk diskio net system temp ping processes`, and
/// `pressure`) and our agent write.
pub fn standard() -> Vec<Rule> {
    let mut iowait = FieldRule::mean("usage_iowait", "cpu.iowait");
    iowait.combine = Combine::Mean;
    let busy = FieldRule { scale: -1.0, offset: 100.0, ..FieldRule::mean("usage_idle", "cpu.busy") };
    let virtual_disks = ["loop", "ram", "zram", "sr", "fd"];
    let virtual_nets = ["lo", "all", "veth", "docker", "br-", "virbr", "cni", "flannel", "cali"];
    vec![
        Rule::new("cpu", vec![busy, iowait]).only("cpu", "cpu-total"),
        Rule::new("mem", vec![FieldRule::mean("used_percent", "mem.used")]),
        Rule::new("disk", vec![FieldRule::mean("used_percent", "disk.used")]).by("path", &["/snap", "/boot"]),
        Rule::new(
            "diskio",
            vec![
                FieldRule::rate_by("read_time", "reads", "disk.read_latency"),
                FieldRule::rate_by("write_time", "writes", "disk.write_latency"),
                FieldRule::rate("read_bytes", "disk.throughput"),
                FieldRule::rate("write_bytes", "disk.throughput"),
            ],
        )
        .by("name", &virtual_disks),
        Rule::new(
            "net",
            vec![
                FieldRule::rate("bytes_recv", "net.throughput"),
                FieldRule::rate("bytes_sent", "net.throughput"),
            ],
        )
        .by("interface", &virtual_nets),
        Rule::new("system", vec![FieldRule::mean("load1", "load")]),
        Rule::new("temp", vec![FieldRule::mean("temp", "temp")]).by("sensor", &[]),
        Rule::new(
            "ping",
            vec![
                FieldRule { combine: Combine::Mean, ..FieldRule::mean("average_response_ms", "net.latency") },
                FieldRule { combine: Combine::Mean, ..FieldRule::mean("percent_packet_loss", "net.loss") },
            ],
        )
        .by("url", &[]),
        Rule::new(
            "processes",
            vec![
                FieldRule::mean("blocked", "processes.blocked"),
                FieldRule::mean("total", "processes.total"),
            ],
        ),
        Rule::new("pressure", vec![FieldRule::mean("avg10", "mem.pressure")])
            .only("resource", "memory")
            .only("type", "some"),
        Rule::new(AGENT_MEASUREMENT, Vec::new()),
    ]
}

/// The standard rules with the user's, which stand over them field by field and metric by metric.
pub(super) fn with_users(own: &[Rule]) -> Vec<Rule> {
    let mut rules = standard();
    rules.retain_mut(|standard| {
        let fields = || own.iter().filter(|r| r.measurement == standard.measurement).flat_map(|r| &r.fields);
        let named = own.iter().any(|rule| rule.measurement == standard.measurement);
        let takes_all = standard.fields.is_empty();
        let before = std::mem::take(&mut standard.fields);
        let kept =
            before.into_iter().filter(|f| fields().all(|o| o.field != f.field && o.metric != f.metric));
        let kept: Vec<FieldRule> = kept.collect();
        standard.fields = kept;
        if takes_all { !named } else { !standard.fields.is_empty() }
    });
    rules.extend(own.iter().cloned());
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::schema::canonical;

    #[test]
    fn telegrafs_standard_inputs_are_known() {
        let rules = standard();
        for name in ["cpu", "mem", "disk", "diskio", "net", "system", "temp", "ping", "processes"] {
            assert!(rules.iter().any(|r| r.measurement == name), "{name}");
        }
        let own = ["load", "processes.blocked", "processes.total"];
        for field in rules.iter().flat_map(|r| &r.fields) {
            assert!(canonical(&field.metric).is_some() || own.contains(&field.metric.as_str()), "{field:?}");
        }
    }

    #[test]
    fn a_users_rule_stands_over_the_standard_ones_and_the_others_stay() {
        let memory = Rule::new("mem", vec![FieldRule::mean("active_percent", "mem.used")]);
        let steal = Rule::new("cpu", vec![FieldRule::mean("usage_steal", "cpu.steal")]);
        let rules = with_users(&[memory.clone(), steal.clone()]);
        let of = |name: &str| rules.iter().filter(|r| r.measurement == name).cloned().collect::<Vec<_>>();
        assert_eq!(of("mem"), [memory]);
        assert_eq!(of("cpu").len(), 2, "busy and waiting stay");
        assert_eq!(of("cpu")[1], steal);
        assert_eq!(of(AGENT_MEASUREMENT).len(), 1);
    }

    #[test]
    fn a_counters_divisor_is_asked_for_too() {
        let rules = standard();
        let diskio = rules.iter().find(|r| r.measurement == "diskio").unwrap();
        assert_eq!(
            diskio.field_keys(Kind::Counter),
            ["read_bytes", "read_time", "reads", "write_bytes", "write_time", "writes"]
        );
        assert!(diskio.field_keys(Kind::Gauge).is_empty());
    }
}
