//! Rules of `[drivers.NAME]`: each class has keys of its own.

use std::collections::BTreeSet;

use super::{Broken, positive, say, secret};
use crate::config::place::{Places, written};
use crate::config::schema::{Config, Driver, DriverClass};

pub(super) fn drivers(config: &Config, places: &Places, broken: &mut Broken) {
    for (name, driver) in &config.drivers {
        let section = format!("drivers.{}", written(name));
        let at = |key: &str| format!("{section}.{key}");
        let (class, known) = (driver.class.word(), driver.class.keys());
        for key in places.below(&section) {
            if key != "class" && !known.contains(&key) {
                let what = format!("class \"{class}\" has no such key; it has: {}", known.join(", "));
                say(broken, at(key), what);
            }
        }
        let (needed, empty) = match driver.class {
            DriverClass::Redis => ("seeds", driver.seeds.is_empty()),
            DriverClass::Postgres if driver.database.is_empty() && driver.databases.is_empty() => {
                ("database", true)
            }
            DriverClass::Postgres => ("clusters", driver.clusters.is_empty()),
            DriverClass::Haproxy => ("sockets", driver.sockets.is_empty()),
            DriverClass::Files => ("roots", driver.roots.is_empty()),
            DriverClass::Service if driver.hosts.is_empty() => ("hosts", true),
            DriverClass::Service => ("services", driver.services.is_empty()),
        };
        if empty {
            say(broken, at("class"), format!("class \"{class}\" needs the key `{needed}`"));
        }
        for (key, list, like) in
            [("seeds", &driver.seeds, "10.0.3.11:6379"), ("clusters", &driver.clusters, "10.0.3.21:5432")]
        {
            for (i, address) in list.iter().enumerate() {
                if !has_port(address) {
                    let what = format!("expected an address with its port, like \"{like}\"");
                    say(broken, at(&format!("{key}[{i}]")), what);
                }
            }
        }
        secret(broken, at("password"), &driver.password);
        if let Some(router) = &driver.router {
            match config.drivers.get(router) {
                Some(other) if !other.class.is_mover() => {}
                Some(other) => {
                    let what =
                        format!("`{router}` is of class \"{}\", which sends no traffic", other.class.word());
                    say(broken, at("router"), what);
                }
                None => say(broken, at("router"), format!("there is no [drivers.{router}]")),
            }
        }
        if driver.key_by_key && driver.slots.is_empty() {
            let what = "says how `slots` go, and there are none: whole shards go by a failover";
            say(broken, at("key_by_key"), what);
        }
        positive(broken, &[(&at("timeout"), driver.timeout), (&at("stop_within"), driver.stop_within)]);
        roots(driver, &section, broken);
        databases(driver, &section, broken);
        tenant(driver, &section, broken);
        pgbouncers(driver, &section, broken);
        services(driver, &section, broken);
    }
}

fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// A workload is a whole database, or something of one.
fn databases(driver: &Driver, section: &str, broken: &mut Broken) {
    if driver.databases.is_empty() {
        return;
    }
    for (key, given) in [("schemas", !driver.schemas.is_empty()), ("tenant", driver.tenant.is_some())] {
        if given {
            let what = "with `databases` whole databases are the workloads, and nothing of them is; expected one of both";
            say(broken, format!("{section}.{key}"), what);
        }
    }
    for (i, name) in driver.databases.iter().enumerate() {
        if name.is_empty() || name.starts_with("template") {
            let what =
                "expected the name of a database that clients use, or \"*\" for every one but postgres";
            say(broken, format!("{section}.databases[{i}]"), what);
        }
    }
}

/// A workload is a schema or a tenant, and each is called by a word.
fn tenant(driver: &Driver, section: &str, broken: &mut Broken) {
    let Some(tenant) = &driver.tenant else { return };
    let at = |key: &str| format!("{section}.tenant.{key}");
    for (key, name) in [("column", &tenant.column), ("schema", &tenant.schema)] {
        if name.is_empty() {
            say(broken, at(key), "expected a name");
        }
    }
    if !driver.schemas.is_empty() {
        let what = "with `tenant` its tenants are the workloads, and no schema is; expected one of both";
        say(broken, format!("{section}.schemas"), what);
    }
    for (i, value) in tenant.values.iter().enumerate() {
        let word = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:@+".contains(&b));
        if !word || !(1..=100).contains(&value.len()) {
            let what = "expected letters, digits and _ - . : @ +, at most 100: a workload is called so";
            say(broken, at(&format!("values[{i}]")), what);
        }
    }
}

/// Each leads the clients of one schema, by a line in a file that nobody else's line stands in.
fn pgbouncers(driver: &Driver, section: &str, broken: &mut Broken) {
    let (mut databases, mut files) = (BTreeSet::new(), BTreeSet::new());
    for (i, pool) in driver.pgbouncers.iter().enumerate() {
        let at = |key: &str| format!("{section}.pgbouncers[{i}].{key}");
        if !has_port(&pool.admin) {
            say(broken, at("admin"), "expected an address with its port, like \"10.0.3.31:6432\"");
        }
        secret(broken, at("password"), &pool.password);
        match pool.schema_of(driver) {
            None => {
                let what = match driver.databases.is_empty() {
                    true => {
                        "expected the schema whose clients come through it: `schemas` does not name exactly one"
                    }
                    false => {
                        "expected the database whose clients come through it: `databases` does not name exactly \
                         one, nor the one that is called so there"
                    }
                };
                say(broken, at("schema"), what);
            }
            Some(name) if !driver.databases.is_empty() && !driver.moves_database(name) => {
                let what = format!("`{name}` is none of the databases {}", driver.databases.join(", "));
                say(broken, at("schema"), what);
            }
            Some(schema) if !driver.schemas.is_empty() && !driver.schemas.iter().any(|s| s == schema) => {
                let what = format!("`{schema}` is none of the schemas {}", driver.schemas.join(", "));
                say(broken, at("schema"), what);
            }
            Some(label) => {
                let tenant = driver.tenant.as_ref();
                let led =
                    tenant.map(|t| label.strip_prefix(t.schema.as_str()).and_then(|l| l.strip_prefix('.')));
                if led.is_some_and(|value| value.unwrap_or_default().is_empty()) {
                    let what = "expected SCHEMA.TENANT: at a cut the clients of one tenant are led elsewhere, \
                                and the others have to come through another database";
                    say(broken, at("schema"), what);
                }
            }
        }
        let database = pool.database_of(driver);
        if !databases.insert((&pool.admin, database)) {
            let what = format!(
                "the clients of another schema come through `{database}` there, too, and could not be led elsewhere; \
                 expected a database of its own"
            );
            say(broken, at("database"), what);
        }
        if pool.file.file_name().is_none() {
            say(broken, at("file"), "expected the file that holds the database's line");
        } else if !files.insert(&pool.file) {
            say(
                broken,
                at("file"),
                "another database's line is in the same file; expected a file of its own",
            );
        }
    }
}

/// Partitions of directories are called like the last part of their path.
fn roots(driver: &Driver, section: &str, broken: &mut Broken) {
    let mut names = BTreeSet::new();
    for (i, root) in driver.roots.iter().enumerate() {
        let Some(name) = root.file_name() else {
            say(broken, format!("{section}.roots[{i}]"), "expected a directory with a name");
            continue;
        };
        if !names.insert(name) {
            let what =
                format!("another root is called {:?}, too: its last part is the partition's name", name);
            say(broken, format!("{section}.roots[{i}]"), what);
        }
    }
}

fn services(driver: &Driver, section: &str, broken: &mut Broken) {
    if driver.class != DriverClass::Service {
        return;
    }
    let names_host = |words: &[String]| words.iter().any(|word| word.contains("{host}"));
    if !driver.via.is_empty() && !names_host(&driver.via) {
        say(broken, format!("{section}.via"), "expected {host} in one of its arguments");
    }
    let several = driver.hosts.len() > 1;
    for (name, service) in &driver.services {
        let at = format!("{section}.services.{}", written(name.as_str()));
        let commands = [("start", &service.start), ("stop", &service.stop), ("status", &service.status)];
        let given = commands.iter().filter(|(_, words)| !words.is_empty()).count();
        if service.unit.is_empty() == (given == 0) || (given > 0 && given < commands.len()) {
            say(broken, at.clone(), "expected `unit`, or all of `start`, `stop` and `status`");
        }
        if several && driver.via.is_empty() {
            if !service.unit.is_empty() {
                let what = "several hosts need `via`, for example via = [\"ssh\", \"{host}\"]: without it all would be this one";
                say(broken, format!("{at}.unit"), what);
            }
            for (key, words) in commands {
                if !words.is_empty() && !names_host(words) {
                    let what =
                        "expected {host} in it (or `via`): without it the command is the same for every host";
                    say(broken, format!("{at}.{key}"), what);
                }
            }
        }
        let known = ["http://", "https://", "tcp://"].iter().find_map(|how| service.health.strip_prefix(how));
        match known {
            None | Some("") => {
                let what = "expected \"http://{host}:8080/health\" or \"tcp://{host}:8080\"";
                say(broken, format!("{at}.health"), what);
            }
            Some(rest) if several && !rest.contains("{host}") => {
                say(broken, format!("{at}.health"), "expected {host} in it: every host is asked for itself");
            }
            Some(_) => {}
        }
    }
}
