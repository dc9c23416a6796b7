//! Nothing is moved by two drivers: they would know nothing of each other's moves, and each workload would be
//! counted twice.

use super::{Broken, say};
use crate::config::place::written;
use crate::config::schema::{Config, Driver, DriverClass};

pub(super) fn shared(config: &Config, broken: &mut Broken) {
    let drivers: Vec<(&String, &Driver)> = config.drivers.iter().collect();
    for (i, (name, driver)) in drivers.iter().enumerate() {
        for (earlier, other) in drivers.iter().take(i).filter(|(_, other)| other.class == driver.class) {
            if let Some((key, what)) = both_move(driver, other) {
                let at = format!("drivers.{}.{key}", written(name));
                let what = format!("{what} in drivers.{} already; give it to one of both", written(earlier));
                say(broken, at, what);
            }
        }
    }
}

/// What two drivers of a class move both: the key of the first that says so, and what it is.
fn both_move(one: &Driver, other: &Driver) -> Option<(String, String)> {
    match one.class {
        DriverClass::Redis => {
            let at = one.seeds.iter().position(|seed| other.seeds.contains(seed))?;
            Some((format!("seeds[{at}]"), format!("the cluster of {} is", one.seeds[at])))
        }
        DriverClass::Files => {
            let at = one.roots.iter().position(|root| other.roots.contains(root))?;
            Some((format!("roots[{at}]"), format!("the directory {} is", one.roots[at].display())))
        }
        DriverClass::Postgres => {
            let at = one.clusters.iter().position(|cluster| other.clusters.contains(cluster))?;
            // Schemas and tenants of one database may have a driver each.
            let database = match (one.databases.is_empty(), other.databases.is_empty()) {
                (true, true) => return None,
                (true, false) => other.moves_database(&one.database).then_some(&one.database),
                (false, true) => one.moves_database(&other.database).then_some(&other.database),
                (false, false) => {
                    let mut all = one.databases.iter().chain(&other.databases);
                    all.find(|d| other.moves_database(d) && one.moves_database(d))
                }
            }?;
            Some((format!("clusters[{at}]"), format!("the database `{database}` of {} is", one.clusters[at])))
        }
        DriverClass::Haproxy | DriverClass::Service => None,
    }
}
