//! From what a recipe asks for to a session's settings: the provider, its library, its plug-in, its options.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use serde_json::json;

use super::machine::Machine;
use super::package::{Installed, Package, Platform};
use super::pins::ONNX_RUNTIME;
use super::provider::{Carrier, Choice, ProviderInfo, choose};
use super::{RuntimeLibrary, ensure_of, load, main_library, named_by_environment};
use crate::base::{Error, Result};
use crate::recipe::{Precision, Provider};
use crate::resource::Fetcher;

/// A provider with everything it needs on this machine.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The ONNX Runtime library.
    pub library: RuntimeLibrary,
    /// The provider, and why it is this one.
    pub choice: Choice,
    /// What it computes in.
    pub precision: Precision,
    plugin: Option<Plugin>,
}

/// Sessions that share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    /// How many.
    pub count: usize,
    /// Threads of each.
    pub threads: usize,
}

/// A plug-in provider's files.
#[derive(Debug, Clone)]
struct Plugin {
    /// The package's name and version.
    title: String,
    library: PathBuf,
    preload: Vec<PathBuf>,
}

/// Chooses the provider for what a recipe asks for, and fetches what is not here yet.
///
/// # Errors
/// Those of [`choose()`]: what is missing; or something cannot be fetched.
pub fn prepare(fetcher: &Fetcher<'_>, asked: Provider, precision: Precision) -> Result<Prepared> {
    let machine = Machine::here();
    let is_added = |info: &ProviderInfo| match (info.package(&machine), machine.platform) {
        (Some(package), Some(platform)) => package.installed(fetcher.home(), platform).is_some(),
        _ => false,
    };
    let choice = choose(asked, precision, &machine, &is_added)?;
    let (library, plugin) = match choice.info.carrier {
        Carrier::Library(package) => (ensure_of(package, fetcher)?, None),
        Carrier::Own => (ensure_of(&ONNX_RUNTIME, fetcher)?, None),
        Carrier::Plugin { package, library, preload } => {
            let plugin = Plugin::ensure(fetcher, package(&machine), library, preload)?;
            (ensure_of(&ONNX_RUNTIME, fetcher)?, Some(plugin))
        }
    };
    Ok(Prepared { library, choice, precision, plugin })
}

/// The library that has a provider, if it is here: its plug-in, or the ONNX Runtime it is a part of.
///
/// # Errors
/// The library that the environment names does not exist.
pub fn provider_library(fetcher: &Fetcher<'_>, info: &ProviderInfo, machine: &Machine) -> Result<Option<PathBuf>> {
    if !matches!(info.carrier, Carrier::Plugin { .. })
        && let Some(library) = named_by_environment(fetcher)?
    {
        return Ok(Some(library.path));
    }
    let (Some(package), Some(platform)) = (info.package(machine), machine.platform) else { return Ok(None) };
    let Some(installed) = package.installed(fetcher.home(), platform) else { return Ok(None) };
    match info.carrier {
        Carrier::Plugin { library, .. } => Plugin::find(&installed, library, &[]).map(|plugin| Some(plugin.library)),
        Carrier::Library(_) | Carrier::Own => main_library(&installed).map(|library| Some(library.path)),
    }
}

/// TensorRT's provider, which keeps its engines in a folder.
fn tensorrt(kept: Option<&Path>) -> ep::TensorRT {
    match kept {
        None => ep::TensorRT::default(),
        Some(folder) => ep::TensorRT::default()
            .with_engine_cache(true)
            .with_engine_cache_path(folder.display())
            .with_timing_cache(true)
            .with_timing_cache_path(folder.display()),
    }
}

impl Plugin {
    fn ensure(fetcher: &Fetcher<'_>, package: &Package, library: &str, preload: &[&str]) -> Result<Self> {
        Self::find(&package.install(fetcher, Platform::here()?)?, library, preload)
    }

    fn find(installed: &Installed, library: &str, preload: &[&str]) -> Result<Self> {
        let name = format!("{}{library}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let find = |wanted: &dyn Fn(&str) -> bool| {
            let is = |path: &str| wanted(path.rsplit('/').next().unwrap_or(path));
            installed.files.iter().find(|file| is(&file.path)).map(|file| installed.folder.join(&file.path))
        };
        let library = find(&|file| file == name);
        let library = library.ok_or_else(|| Error::failed(format!("`{}` has no `{name}`", installed.name)))?;
        let preload = preload.iter().filter_map(|start| find(&|file| file.starts_with(start))).collect();
        Ok(Self { title: format!("{} {}", installed.name, installed.version), library, preload })
    }

    /// Makes the provider known to the environment, once per process.
    fn register(&self, environment: &Environment) -> Result<()> {
        static REGISTERED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
        let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
        let registered = registered.get_or_insert_default();
        if registered.contains(&self.library) {
            return Ok(());
        }
        let failed = || Error::failed(format!("the plug-in `{}` cannot be loaded", self.title));
        for path in &self.preload {
            // SAFETY: the file is a library of a pinned wheel, whose digest was checked when it was unpacked.
            let loaded = unsafe { libloading::Library::new(path) }.map_err(|error| failed().because(error))?;
            // The plug-in finds it as loaded already, and needs it as long as the process lives.
            std::mem::forget(loaded);
        }
        environment.register_ep_library(&self.title, &self.library).map_err(|error| failed().because(error))?;
        registered.insert(self.library.clone());
        Ok(())
    }
}

impl Prepared {
    /// The processor's own provider in fp32, in the same library: a process loads one.
    ///
    /// # Errors
    /// The processor's provider is not in the table.
    pub fn on_processor(&self) -> Result<Self> {
        let info = ProviderInfo::of(Provider::Cpu).ok_or_else(|| Error::failed("there is no provider `cpu`"))?;
        let choice = Choice { info, why: "it is what others are compared with".into() };
        Ok(Self { library: self.library.clone(), choice, precision: Precision::Fp32, plugin: None })
    }

    /// Providers of one class give the same values.
    pub fn numeric_class(&self) -> String {
        format!("onnxruntime-{}", self.choice.info.name)
    }

    /// The runtime with its version, and the plug-in's where there is one: what decides the values.
    pub fn runtime(&self) -> String {
        let library = format!("onnxruntime {}", self.library.version);
        self.plugin.as_ref().map_or(library.clone(), |plugin| format!("{library}, {}", plugin.title))
    }

    /// The runtime, the provider and the precision in words: what checks of an engine hold for.
    pub fn describe(&self) -> String {
        format!("{} on {} in {}", self.runtime(), self.choice.info.name, self.precision.name())
    }

    /// How many sessions share a batch. OpenVINO does more with several requests of few threads than with one of many;
    /// each session has the weights once, so there are few. The number of threads never changes a value.
    pub fn lanes(&self, threads: usize) -> Lanes {
        let most = if self.choice.info.provider == Provider::Openvino { 4 } else { 1 };
        let count = threads.clamp(1, most);
        Lanes { count, threads: (threads / count).max(1) }
    }

    /// Whether an engine is compiled for the machine before it runs, which is worth keeping.
    pub(super) fn compiles(&self) -> bool {
        matches!(self.choice.info.provider, Provider::Openvino | Provider::TensorrtRtx)
    }

    /// Whether the provider itself keeps what it compiles, in a folder that it is given.
    pub(super) fn keeps_itself(&self) -> bool {
        self.choice.info.provider == Provider::Tensorrt
    }

    /// A session's builder with the provider in it, on `threads` threads of the processor. A provider that keeps what
    /// it compiles does so in `kept`.
    ///
    /// # Errors
    /// The library or plug-in cannot be loaded, or finds no device to run on.
    pub fn session(&self, threads: usize, kept: Option<&Path>) -> Result<SessionBuilder> {
        let environment = load(&self.library)?;
        let info = self.choice.info;
        let failed =
            |error: ort::Error| Error::failed(format!("`provider: {}` cannot be set up", info.name)).because(error);
        let builder = Session::builder(&environment).map_err(failed)?;
        let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(|e| failed(e.into()))?;
        let builder = builder.with_intra_threads(threads).map_err(|e| failed(e.into()))?;
        // Spinning threads would take the cores from the decoders that prepare the next batch.
        let builder = builder.with_intra_op_spinning(false).map_err(|e| failed(e.into()))?;
        if info.provider == Provider::Cpu {
            // Of a session that names no device, the library gives the work to a plug-in that any other session of the
            // process has registered, which computes in what numbers it likes.
            let own = environment.devices().filter(|device| device.ep().is_ok_and(|ep| ep == info.ep)).take(1);
            return builder.with_devices(own, None).map_err(|error| failed(error.into()));
        }
        if let Some(plugin) = &self.plugin {
            plugin.register(&environment)?;
            let devices: Vec<_> =
                environment.devices().filter(|device| device.ep().is_ok_and(|ep| ep == info.ep)).collect();
            let Some(first) = devices.into_iter().next() else {
                let what = format!("`provider: {}` finds no device on this machine", info.name);
                return Err(Error::failed(what).hint("is there a card, with its driver?"));
            };
            let options = self.options(threads);
            return builder.with_devices([first], Some(&options)).map_err(|error| failed(error.into()));
        }
        let dispatch = match info.provider {
            Provider::Cuda => ep::CUDA::default().with_tf32(false).build(),
            Provider::Tensorrt => tensorrt(kept)
                .with_fp16(self.precision == Precision::Fp16)
                .with_bf16(self.precision == Precision::Bf16)
                .with_int8(self.precision == Precision::Int8)
                .build(),
            // The processor and the GPU compute in fp32; the neural engine does not.
            Provider::Coreml => ep::CoreML::default().with_compute_units(ep::coreml::ComputeUnits::CPUAndGPU).build(),
            Provider::Directml => ep::DirectML::default().build(),
            _ => return Ok(builder),
        };
        builder.with_execution_providers([dispatch.error_on_failure()]).map_err(|error| failed(error.into()))
    }

    /// The options of a plug-in, each with the provider's name before it.
    fn options(&self, threads: usize) -> Vec<(String, String)> {
        if self.choice.info.provider != Provider::Openvino {
            return Vec::new();
        }
        // Left alone, OpenVINO computes fp32 models in bf16 wherever the processor can.
        let hint = if self.precision == Precision::Bf16 { "bf16" } else { "f32" };
        let config = json!({"CPU": {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads.to_string(),
            // Pinned, the threads of all sessions would be put on the same first cores.
            "ENABLE_CPU_PINNING": "NO",
        }});
        vec![(format!("{}.load_config", self.choice.info.ep), config.to_string())]
    }
}
