//! A service like those in the field (axum, an HTTP client, PostgreSQL and Redis clients): every task
//! type is found, and the handler that blocks is named.

use std::collections::BTreeSet;
use std::fs;

use ::observer::runtimes::tokio::TokioImage;
use ::observer::sys::elf::ElfImage;
use object::{Object as _, ObjectSymbol as _, SymbolKind};

use crate::support::observer;
use crate::support::report::{check_completeness, list, number, shares};
use crate::support::require::{Need, fixture, require};
use crate::support::truth::{Program, WATCHED, check_function, check_time};

const SERVICE: &str = "service/release/service-fixture";
const STRIPPED: &str = "service/stripped/service-fixture";

/// Addresses of tokio's `raw::poll` functions, by the symbols of the file.
fn polls_by_symbol(bytes: &[u8]) -> BTreeSet<u64> {
    let file = object::File::parse(bytes).expect("an executable");
    file.symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text)
        .filter(|symbol| {
            let name = symbol.name().unwrap_or_default();
            // Both manglings spell the path like this.
            name.contains("5tokio7runtime4task3raw4poll") || name.contains("4task3raw4pollI")
        })
        .map(|symbol| symbol.address())
        .collect()
}

#[test]
#[ignore = "needs a service with many dependencies: run by `cargo xtask tokio-matrix service`"]
fn every_task_type_is_found() {
    require!(Need::Fixture(SERVICE), Need::Fixture(STRIPPED));
    let path = fixture(SERVICE);
    let bytes = fs::read(&path).expect("the service");
    let elf = ElfImage::open(&path).expect("an executable");
    let image = TokioImage::read(&elf).expect("tokio");
    let found: BTreeSet<u64> = image.vtables().iter().map(|vtable| vtable.poll).collect();
    let expected = polls_by_symbol(&bytes);
    println!(
        "{} task types, {} polls",
        image.vtables().len(),
        found.len()
    );
    assert!(expected.len() >= 15, "{expected:#x?}");
    assert_eq!(found, expected);
    let types = image.task_types(&elf);
    let named = types.iter().filter(|t| t.name.known().is_some()).count();
    println!("{named} of {} types are named", types.len());
    for part in [
        "axum::serve",
        "service_fixture::try_databases::{{closure}}::",
        "redis::",
        "hyper_util::",
        "service_fixture::ask",
    ] {
        assert!(
            types.iter().any(|t| t.label().contains(part)),
            "{part}: {types:#?}"
        );
    }
    assert!(named * 8 >= types.len() * 7, "{types:#?}");
    assert_eq!(image.poll_targets(&elf).refused, []);

    let stripped = ElfImage::open(&fixture(STRIPPED)).expect("an executable");
    let image = TokioImage::read(&stripped).expect("tokio");
    println!("stripped: {} task types", image.vtables().len());
    assert_eq!(image.vtables().len(), types.len());
    assert!(image.reader().known().is_some(), "{:?}", image.reader());
}

fn check(program: &str, named: bool) {
    let program = Program::start(program, &[]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();
    let mut checked = 0;
    for truth in &truths {
        let entry = check_time(&report, "tokio_task", truth);
        assert_eq!(entry["legality"], "in_poll", "{entry:#}");
        for share in shares(&report, "tokio_task", truth.id) {
            let name = share.task["name"].as_str().expect("a type");
            println!("{} {name}: {} ns", truth.id, number(share.task, "total_ns"));
            assert_eq!(name.contains("axum::serve::"), named, "{name}");
            assert_eq!(share.task["name_unknown_reason"].is_null(), named);
        }
        if named {
            check_function(entry, "service_fixture::read_archive");
            // The handler is inlined: line tables tell where it is.
            let places = list(entry, "stack").iter().filter(|frame| {
                let file = frame["file"].as_str().unwrap_or_default();
                file.ends_with("service/src/main.rs") && frame["line"].as_u64().is_some()
            });
            assert!(places.count() >= 2, "{:#}", entry["stack"]);
        }
        checked += 1;
    }
    assert!(checked >= 2, "{truths:#?}");
    check_completeness(&report);
}

#[test]
#[ignore = "needs a service with many dependencies: run by `cargo xtask tokio-matrix service`"]
fn the_handler_that_blocks_is_named() {
    require!(Need::Privilege, Need::Fixture(SERVICE));
    check(SERVICE, true);
}

#[test]
#[ignore = "needs a service with many dependencies: run by `cargo xtask tokio-matrix service`"]
fn stripped_tasks_have_labels() {
    require!(Need::Privilege, Need::Fixture(STRIPPED));
    check(STRIPPED, false);
}
