//! What people see of a wrong configuration: a table of texts, each with its message.

use std::path::Path;

use super::Config;

const WRONG: [(&str, &str); 36] = [
    ("misspelt key", "[engine]\nintervall = \"15s\"\n"),
    ("key of another section", "[plan]\ndata_dir = \"/tmp/x\"\n"),
    ("unknown key without neighbour", "[console]\nzebra = true\n"),
    ("unknown section", "[engines]\ninterval = \"15s\"\n"),
    ("span without unit", "[engine]\ninterval = 15\n"),
    ("span with an unknown unit", "[engine]\n\ninterval = \"15 parsecs\"\n"),
    ("share over the whole", "[plan]\nrisk_tolerance = 1.5\n"),
    ("share over the whole in percent", "[limits]\nfleet_share = \"130%\"\n"),
    ("amount that is none", "[limits]\nbytes_per_second = \"fast\"\n"),
    ("misspelt word", "[engine]\nmode = \"advice\"\n"),
    ("number for a word", "[engine]\nmode = 3\n"),
    ("wrong kind", "[console]\nmouse = \"yes\"\n"),
    ("secret in the file", "[telemetry]\ntoken = \"hunter2hunter2\"\n"),
    ("secret number in the file", "[drivers.c]\nclass = \"redis\"\nseeds = [\"a:1\"]\npassword = 123456\n"),
    ("secret in two places", "[agent]\ntoken = { file = \"a\", env = \"B\" }\n"),
    ("misspelt place of a secret", "[agent]\ntoken = { fiel = \"a\" }\n"),
    ("no TOML", "[engine\ninterval = \"15s\"\n"),
    ("key written twice", "[engine]\nlog = \"info\"\nlog = \"debug\"\n"),
    ("address without port", "[engine]\nlisten = \"localhost\"\n"),
    ("off over on", "[[plan.thresholds]]\nwithin = \"1h\"\non = \"50%\"\noff = 0.6\n"),
    ("missing key in a list", "[[plan.thresholds]]\nwithin = \"1h\"\non = 0.5\n"),
    ("windows out of order", "[predict]\nwindows = [\"1h\", \"15m\", \"24h\"]\n[plan]\nthresholds = []\n"),
    (
        "canary that shrinks",
        "[migration]\ncanary = [{ share = \"50%\", hold = \"30s\" }, { share = \"25%\", hold = \"30s\" }]\n",
    ),
    (
        "influxdb2 without anything",
        "[telemetry]\nsource = \"influxdb2\"\nurl = \"https://me:secret@influx\"\n",
    ),
    (
        "driver with another class' key",
        "[drivers.cache]\nclass = \"redis\"\nsockets = [\"/run/haproxy.sock\"]\nrouter = \"lb\"\nkey_by_key = true\n",
    ),
    (
        "what two drivers would move",
        "[drivers.a]\nclass = \"redis\"\nseeds = [\"r1:7001\", \"r2:7001\"]\n\
         [drivers.b]\nclass = \"redis\"\nseeds = [\"r3:7001\", \"r2:7001\"]\nslots = [\"0-5460/8\"]\n\
         [drivers.c]\nclass = \"postgres\"\nclusters = [\"p1:5432\", \"p2:5432\"]\ndatabases = [\"*\"]\n\
         [drivers.d]\nclass = \"postgres\"\nclusters = [\"p2:5432\"]\ndatabase = \"shop\"\nschemas = [\"orders\"]\n\
         [drivers.e]\nclass = \"postgres\"\nclusters = [\"p3:5432\"]\ndatabase = \"shop\"\nschemas = [\"orders\"]\n\
         [drivers.f]\nclass = \"postgres\"\nclusters = [\"p3:5432\"]\ndatabase = \"shop\"\nschemas = [\"carts\"]\n\
         [drivers.g]\nclass = \"files\"\nroots = [\"/a/x\"]\n\
         [drivers.h]\nclass = \"files\"\nroots = [\"/a/y\", \"/a/x\"]\n",
    ),
    ("two directories of one name", "[drivers.a]\nclass = \"files\"\nroots = [\"/a/x\", \"/b/x\"]\n"),
    (
        "unit on several hosts without a way there",
        "[drivers.web]\nclass = \"service\"\nhosts = [\"a\", \"b\"]\n\
         [drivers.web.services.api]\nunit = \"api.service\"\nhealth = \"http://a:80/\"\n",
    ),
    (
        "service without a way to stop it",
        "[drivers.web]\nclass = \"service\"\nhosts = [\"a\"]\nvia = [\"ssh\", \"a\"]\n\
         [drivers.web.services.api]\nstart = [\"x\"]\nstatus = [\"y\"]\nhealth = \"a:80\"\n",
    ),
    (
        "pools that nobody can lead",
        "[drivers.shop]\nclass = \"postgres\"\nclusters = [\"a:5432\"]\ndatabase = \"shop\"\n\
         schemas = [\"orders\", \"carts\"]\n\
         [[drivers.shop.pgbouncers]]\nadmin = \"10.0.3.31\"\nschema = \"order\"\nfile = \"shop.ini\"\n\
         [[drivers.shop.pgbouncers]]\nadmin = \"10.0.3.31\"\nfile = \"shop.ini\"\n",
    ),
    (
        "tenants and schemas at once, and pools of all tenants",
        "[drivers.shop]\nclass = \"postgres\"\nclusters = [\"a:5432\"]\ndatabase = \"shop\"\n\
         schemas = [\"orders\"]\n\
         [drivers.shop.tenant]\ncolumn = \"\"\nschema = \"orders\"\nvalues = [\"7\", \"a/b\"]\n\
         [[drivers.shop.pgbouncers]]\nadmin = \"10.0.3.31:6432\"\nfile = \"shop.ini\"\n",
    ),
    (
        "whole databases and schemas at once, and pools of none",
        "[drivers.shop]\nclass = \"postgres\"\nclusters = [\"a:5432\"]\n\
         databases = [\"shop\", \"crm\", \"template1\"]\nschemas = [\"orders\"]\n\
         [[drivers.shop.pgbouncers]]\nadmin = \"10.0.3.31:6432\"\ndatabase = \"crmm\"\nfile = \"crm.ini\"\n\
         [[drivers.shop.pgbouncers]]\nadmin = \"10.0.3.31:6432\"\nschema = \"hr\"\nfile = \"hr.ini\"\n",
    ),
    ("one key for two actions", "[console.keys]\napprove = [\"a\", \"y\"]\nreject = \"y\"\n"),
    ("limits upside down", "[limits.moves]\nfleet = 2\nsite = 3\nhost = 0\n"),
    ("time of day", "[[limits.windows]]\ndays = [\"mon\"]\nfrom = \"22:00\"\nto = \"25:00\"\n"),
    ("day of the week", "[[limits.windows]]\ndays = [\"monday\"]\nfrom = \"22:00\"\nto = \"23:00\"\n"),
];

#[test]
fn every_wrong_configuration_is_told_with_its_place_and_how_to_mend_it() {
    let mut told = String::new();
    for (name, text) in WRONG {
        let error = match Config::parse(text, Path::new("config.toml")) {
            Ok(_) => panic!("{name}: was taken"),
            Err(error) => error.to_string(),
        };
        assert!(!error.contains("hunter2") && !error.contains("123456") && !error.contains("me:secret"));
        assert!(error.lines().all(|line| line.starts_with("config.toml:")), "{name}: {error}");
        told.push_str(&format!("{name}\n    {}\n", error.replace('\n', "\n    ")));
    }
    insta::assert_snapshot!("wrong_configurations", told);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z\\[\\]=\"\n .0-9#{}]{0,80}") {
        let _ = Config::parse(&text, Path::new("config.toml"));
    }
}
