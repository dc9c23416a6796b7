//! Names and ids. A name is text at the border (shared, cheap to clone, ordered); a number is an id
//! that the engine itself hands out. None of them can be mixed up with another.

use std::fmt;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

/// Reads a name's text to where it is shared from, and nowhere else before.
struct Text;

impl Visitor<'_> for Text {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Arc<str>, E> {
        Ok(text.into())
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text).map(Self)
            }
        }

        impl $name {
            /// The name from its text. Text comes from outside, so any text is allowed; what a
            /// screen shows of it is cleaned of control characters there.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A site: a data centre, a region.
    SiteId
);
name!(
    /// A rack within a site; the failure domain between host and site.
    RackId
);
name!(
    /// One machine or virtual machine.
    HostId
);
name!(
    /// The unit that runs workloads, is watched, and fails. Written `host/partition`, for example
    /// `fra-r3-11/p2`; a host that is one partition itself bears the host's name alone.
    PartitionId
);
name!(
    /// What is moved: a shard, a component, a service instance.
    WorkloadId
);
name!(
    /// A named set of workloads that share models and policy.
    ApplicationId
);
name!(
    /// The canonical name of a metric, for example `disk.write_latency_ms` (see
    /// `telemetry::schema`).
    MetricName
);

impl PartitionId {
    /// The partition `part` of `host`, or the host's only partition when `part` is empty.
    pub fn of(host: &HostId, part: &str) -> Self {
        if part.is_empty() { Self::new(host.as_str()) } else { Self::new(format!("{host}/{part}")) }
    }

    /// The host's part of the name: all before the first `/`.
    pub fn host(&self) -> HostId {
        HostId::new(self.as_str().split('/').next().unwrap_or_default())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Writes what [`fmt::Display`] shows after what `text` holds already, without its machinery.
            pub fn push_onto(self, text: &mut String) {
                text.push_str($prefix);
                super::digits::push_number(text, self.0, 1);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if f.width().is_some() || f.precision().is_some() {
                    return f.pad(&format!(concat!($prefix, "{}"), self.0));
                }
                f.write_str($prefix)?;
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            /// Reads the number with or without its prefix.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let number = text.strip_prefix($prefix).unwrap_or(text).parse().map(Self);
                number.map_err(|_| format!("{text:?}: expected {}12 or the number alone", $prefix))
            }
        }
    };
}

number!(
    /// A migration, `M-977`; numbers come from a counter in the store and are never used twice.
    MigrationId,
    "M-"
);
number!(
    /// A proposal, `P-218`; numbers come from a counter in the store and are never used twice.
    ProposalId,
    "P-"
);
number!(
    /// How often ownership of a workload has changed; strictly grows. Exactly one owner per
    /// generation.
    Generation,
    "g"
);
number!(
    /// The leader's fencing revision: every effect carries it, an older one is refused.
    Epoch,
    "e"
);
number!(
    /// A revision of the store or of the topology; strictly grows with every change.
    Revision,
    "r"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_names_its_host() {
        let host = HostId::from("fra-r3-11");
        assert_eq!(PartitionId::of(&host, "p2").as_str(), "fra-r3-11/p2");
        assert_eq!(PartitionId::of(&host, "p2").host(), host);
        assert_eq!(PartitionId::of(&host, "").host(), host);
    }

    #[test]
    fn ids_are_read_with_and_without_prefix() {
        assert_eq!("M-12".parse::<MigrationId>().unwrap(), MigrationId(12));
        assert_eq!("12".parse::<MigrationId>().unwrap(), MigrationId(12));
        assert!("P-12".parse::<MigrationId>().is_err_and(|said| said.contains("M-12")));
        let mut text = "of ".to_string();
        MigrationId(120).push_onto(&mut text);
        assert_eq!(text, format!("of {}", MigrationId(120)));
        assert_eq!(format!("{:>6}|{:<4}|", Generation(7), Epoch(30)), "    g7|e30 |");
    }
}
