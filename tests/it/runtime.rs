//! ONNX Runtime is fetched, checked, loaded and runs.

use caft::base::Cancel;
use caft::base::home::Home;
use caft::base::progress::Silent;
use caft::engine::runtime;
use caft::resource::Fetcher;

#[test]
fn the_pinned_runtime_is_fetched_and_loads() {
    let home = Home::from_environment().unwrap();
    let cancel = Cancel::default();
    let fetcher = Fetcher::new(&home, &Silent, &cancel, false);
    let library = runtime::ensure(&fetcher).unwrap();
    assert_eq!(runtime::present(&fetcher).unwrap(), Some(library.clone()));
    let environment = runtime::load(&library).unwrap();
    let devices: Vec<String> = environment.devices().map(|device| device.ep().unwrap().to_string()).collect();
    assert!(devices.iter().any(|ep| ep == "CPUExecutionProvider"), "{devices:?}");
    assert!(runtime::load(&library).is_ok(), "a second load gives the same environment");
}
