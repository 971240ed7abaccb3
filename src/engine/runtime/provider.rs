//! The execution providers: what brings each, what it computes in, what it needs, and which one `auto` takes.

use super::machine::Machine;
use super::package::Package;
use super::pins::{ONNX_RUNTIME, ONNX_RUNTIME_GPU, OPENVINO, TENSORRT_RTX_CUDA12, TENSORRT_RTX_CUDA13, WEBGPU};
use crate::base::suggest::one_of;
use crate::base::{Error, Result};
use crate::recipe::{Precision, Provider};

/// An execution provider.
#[derive(Debug)]
pub struct ProviderInfo {
    /// As recipes call it.
    pub provider: Provider,
    /// As recipes write it.
    pub name: &'static str,
    /// As ONNX Runtime calls it.
    pub ep: &'static str,
    /// What brings it.
    pub carrier: Carrier,
    /// What it computes in, given a model that is in fp16 or has QDQ nodes for int8, and in fp32 for the others.
    pub precisions: &'static [Precision],
    /// What it is, for people.
    pub about: &'static str,
}

/// What brings a provider.
#[derive(Debug)]
pub enum Carrier {
    /// It is part of an ONNX Runtime library.
    Library(&'static Package),
    /// It is a plug-in for any ONNX Runtime library.
    Plugin {
        /// The package for a machine.
        package: fn(&Machine) -> &'static Package,
        /// The plug-in's library without prefix and suffix.
        library: &'static str,
        /// Libraries of the package to load first, by the beginning of their names: the plug-in does not look for
        /// them beside itself.
        preload: &'static [&'static str],
    },
    /// Nobody publishes it for this version of ONNX Runtime; a library of one's own may have it.
    Own,
}

use Precision::{Bf16, Fp16, Fp32, Int8};

/// All providers.
pub static PROVIDERS: [ProviderInfo; 8] = [
    ProviderInfo {
        provider: Provider::Cpu,
        name: "cpu",
        ep: "CPUExecutionProvider",
        carrier: Carrier::Library(&ONNX_RUNTIME),
        precisions: &[Fp32, Fp16, Int8],
        about: "the processor",
    },
    ProviderInfo {
        provider: Provider::Openvino,
        name: "openvino",
        ep: "OpenVINOExecutionProvider",
        carrier: Carrier::Plugin {
            package: |_| &OPENVINO,
            library: "onnxruntime_providers_openvino_plugin",
            preload: &[],
        },
        precisions: &[Fp32, Bf16, Int8],
        about: "Intel OpenVINO on the processor",
    },
    ProviderInfo {
        provider: Provider::Cuda,
        name: "cuda",
        ep: "CUDAExecutionProvider",
        carrier: Carrier::Library(&ONNX_RUNTIME_GPU),
        precisions: &[Fp32, Fp16],
        about: "NVIDIA CUDA 13",
    },
    ProviderInfo {
        provider: Provider::Tensorrt,
        name: "tensorrt",
        ep: "TensorrtExecutionProvider",
        carrier: Carrier::Library(&ONNX_RUNTIME_GPU),
        precisions: &[Fp32, Fp16, Bf16, Int8],
        about: "NVIDIA TensorRT 10",
    },
    ProviderInfo {
        provider: Provider::TensorrtRtx,
        name: "tensorrt_rtx",
        ep: "NvTensorRTRTXExecutionProvider",
        carrier: Carrier::Plugin {
            // A driver of version 580 or later runs CUDA 13; that one needs no older libraries.
            package: |machine| match machine.nvidia_major() {
                Some(major) if major < 580 => &TENSORRT_RTX_CUDA12,
                _ => &TENSORRT_RTX_CUDA13,
            },
            library: "onnxruntime_providers_nv_tensorrt_rtx",
            preload: &["libcudart.so", "libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so"],
        },
        precisions: &[Fp32, Fp16],
        about: "NVIDIA TensorRT for RTX",
    },
    ProviderInfo {
        provider: Provider::Webgpu,
        name: "webgpu",
        ep: "WebGpuExecutionProvider",
        carrier: Carrier::Plugin { package: |_| &WEBGPU, library: "onnxruntime_providers_webgpu", preload: &[] },
        precisions: &[Fp32, Fp16],
        about: "WebGPU on any graphics card",
    },
    ProviderInfo {
        provider: Provider::Coreml,
        name: "coreml",
        ep: "CoreMLExecutionProvider",
        carrier: Carrier::Library(&ONNX_RUNTIME),
        precisions: &[Fp32, Fp16],
        about: "Apple Core ML on the processor and GPU",
    },
    ProviderInfo {
        provider: Provider::Directml,
        name: "directml",
        ep: "DmlExecutionProvider",
        carrier: Carrier::Own,
        precisions: &[Fp32, Fp16],
        about: "Microsoft DirectML",
    },
];

impl ProviderInfo {
    /// The entry of a provider; `None` for `auto`.
    pub fn of(provider: Provider) -> Option<&'static Self> {
        PROVIDERS.iter().find(|info| info.provider == provider)
    }

    /// The package that brings it to a machine.
    pub fn package(&self, machine: &Machine) -> Option<&'static Package> {
        match self.carrier {
            Carrier::Library(package) => Some(package),
            Carrier::Plugin { package, .. } => Some(package(machine)),
            Carrier::Own => None,
        }
    }

    /// Checks that a machine has the hardware, driver and libraries that the provider needs.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self, machine: &Machine) -> Result<()> {
        let missing = |what: &str| Error::failed(format!("`provider: {}` cannot be used here: {what}", self.name));
        match self.provider {
            Provider::Openvino if !machine.is_x86() => return Err(missing("it is for x86 processors")),
            Provider::Coreml if !cfg!(target_os = "macos") => return Err(missing("it is for macOS")),
            Provider::Directml if !cfg!(windows) => return Err(missing("it is for Windows")),
            Provider::Cuda | Provider::Tensorrt | Provider::TensorrtRtx => self.check_nvidia(machine, missing)?,
            _ => (),
        }
        let (Some(package), Some(platform)) = (self.package(machine), machine.platform) else { return Ok(()) };
        package.wheel(platform).map(drop)
    }

    fn check_nvidia(&self, machine: &Machine, missing: impl Fn(&str) -> Error) -> Result<()> {
        if machine.nvidia_driver.is_none() {
            return Err(missing("no NVIDIA driver is loaded")
                .hint("does `nvidia-smi` list a card? In a container, pass it through"));
        }
        let needed: &[&str] = match self.provider {
            Provider::Cuda => &["cudart", "cublas.", "cublas64", "cublasLt", "curand", "cudnn"],
            Provider::Tensorrt => &["cudart", "cublas.", "cublas64", "cublasLt", "curand", "cudnn", "nvinfer"],
            _ => &[],
        };
        let absent: Vec<&str> = super::machine::WANTED_LIBRARIES
            .iter()
            .copied()
            .filter(|name| needed.iter().any(|part| name.contains(part)) && !machine.libraries.contains(name))
            .collect();
        if absent.is_empty() {
            return Ok(());
        }
        let hint = "install the CUDA 13 runtime with cuDNN 9 (and TensorRT 10), where the loader finds them";
        Err(missing(&format!("these libraries are not found: {}", absent.join(", "))).hint(hint))
    }

    /// Checks that it computes in a precision on a machine.
    ///
    /// # Errors
    /// It does not.
    pub fn check_precision(&self, precision: Precision, machine: &Machine) -> Result<()> {
        let name = self.name;
        if !self.precisions.contains(&precision) {
            let can: Vec<&str> = self.precisions.iter().map(|p| p.name()).collect();
            let what = format!("`provider: {name}` does not compute in {}", precision.name());
            return Err(Error::bad_input(what).hint(format!("it computes in {}", one_of(can))));
        }
        if self.provider == Provider::Openvino && precision == Bf16 && !machine.bf16 {
            let what = "this processor has no bf16 units (neither AVX512-BF16 nor AMX-BF16)";
            return Err(Error::failed(what).hint("use `precision: fp32`"));
        }
        Ok(())
    }
}

/// The provider that will run an engine, and why it is this one.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The provider.
    pub info: &'static ProviderInfo,
    /// Why, for people.
    pub why: String,
}

/// Which providers `auto` considers for a precision, the best first. What is built in, and OpenVINO for bf16, need not
/// be there already; the others are taken only where someone has added them.
///
/// For fp32 the processor's own provider stands before OpenVINO although that is faster: adding OpenVINO for
/// another recipe must not make a recipe's stored activations stale.
fn preferred(precision: Precision) -> &'static [Provider] {
    match precision {
        Fp32 => &[Provider::Cuda, Provider::Cpu],
        Bf16 => &[Provider::Tensorrt, Provider::Openvino],
        Fp16 => &[Provider::Tensorrt, Provider::Cuda, Provider::Cpu],
        Int8 => &[Provider::Tensorrt, Provider::Openvino, Provider::Cpu],
    }
}

/// Chooses the provider for what a recipe asks for.
///
/// # Errors
/// The asked provider, or for `auto` every one that computes in the precision, cannot be used here; what is missing is
/// said of each.
pub fn choose(
    asked: Provider,
    precision: Precision,
    machine: &Machine,
    is_added: &dyn Fn(&ProviderInfo) -> bool,
) -> Result<Choice> {
    if let Some(info) = ProviderInfo::of(asked) {
        info.check_precision(precision, machine)?;
        info.check(machine)?;
        return Ok(Choice { info, why: "the recipe asks for it".into() });
    }
    let mut passed_over = Vec::new();
    for info in preferred(precision).iter().filter_map(|&provider| ProviderInfo::of(provider)) {
        let name = info.name;
        let comes_alone = matches!(info.provider, Provider::Cpu | Provider::Openvino);
        if let Err(error) = info.check_precision(precision, machine).and_then(|()| info.check(machine)) {
            let what = error.to_string();
            let plain = what.split_once("here: ").map_or(what.as_str(), |(_, why)| why);
            passed_over.push(format!("{name}: {plain}"));
        } else if !comes_alone && !is_added(info) {
            passed_over.push(format!("{name}: not added (`caft runtime add {name}`)"));
        } else {
            let best = format!("the best for {} on this machine", precision.name());
            let why = if passed_over.is_empty() { best } else { format!("{best}; {}", passed_over.join("; ")) };
            return Ok(Choice { info, why });
        }
    }
    let what = format!("no provider computes in {} on this machine", precision.name());
    Err(Error::failed(format!("{what} ({})", passed_over.join("; "))).hint("use `precision: fp32`"))
}

#[cfg(test)]
mod tests {
    use super::super::machine::WANTED_LIBRARIES;
    use super::super::package::Platform;
    use super::*;

    fn plain() -> Machine {
        Machine { platform: Some(Platform::LinuxX86), bf16: false, nvidia_driver: None, libraries: Vec::new() }
    }

    fn with_bf16() -> Machine {
        Machine { bf16: true, ..plain() }
    }

    fn with_card() -> Machine {
        Machine { nvidia_driver: Some("580.65".into()), libraries: WANTED_LIBRARIES.to_vec(), ..plain() }
    }

    fn auto(precision: Precision, machine: &Machine, added: bool) -> Result<&'static str> {
        choose(Provider::Auto, precision, machine, &|_| added).map(|choice| choice.info.name)
    }

    #[test]
    fn every_provider_has_an_entry() {
        for provider in [
            Provider::Cpu,
            Provider::Openvino,
            Provider::Cuda,
            Provider::Tensorrt,
            Provider::TensorrtRtx,
            Provider::Webgpu,
            Provider::Coreml,
            Provider::Directml,
        ] {
            assert_eq!(ProviderInfo::of(provider).unwrap().name, provider.name());
        }
        assert!(ProviderInfo::of(Provider::Auto).is_none());
    }

    #[test]
    fn auto_takes_the_best_that_is_present() {
        assert_eq!(auto(Fp32, &plain(), true).unwrap(), "cpu");
        assert_eq!(auto(Fp32, &with_bf16(), true).unwrap(), "cpu", "adding OpenVINO makes nothing stale");
        assert_eq!(auto(Fp32, &with_card(), true).unwrap(), "cuda");
        assert_eq!(auto(Fp32, &with_card(), false).unwrap(), "cpu");
        assert_eq!(auto(Bf16, &with_bf16(), false).unwrap(), "openvino");
        assert_eq!(auto(Bf16, &with_card(), true).unwrap(), "tensorrt");
        assert_eq!(auto(Fp16, &with_card(), true).unwrap(), "tensorrt");
        assert_eq!(auto(Fp16, &plain(), true).unwrap(), "cpu");
        let choice = choose(Provider::Auto, Fp32, &with_card(), &|_| false).unwrap();
        assert_eq!(choice.why, "the best for fp32 on this machine; cuda: not added (`caft runtime add cuda`)");
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = auto(Bf16, &plain(), true).unwrap_err().to_string();
        assert_eq!(
            error,
            "no provider computes in bf16 on this machine (tensorrt: no NVIDIA driver is loaded; openvino: this \
             processor has no bf16 units (neither AVX512-BF16 nor AMX-BF16))"
        );
        let arm = Machine { platform: Some(Platform::LinuxArm), ..plain() };
        for (provider, precision, machine, part) in [
            (Provider::Cuda, Fp32, plain(), "`provider: cuda` cannot be used here: no NVIDIA driver is loaded"),
            (Provider::Openvino, Fp32, arm, "it is for x86 processors"),
            (Provider::Openvino, Fp16, plain(), "`provider: openvino` does not compute in fp16"),
            (Provider::Webgpu, Int8, plain(), "`provider: webgpu` does not compute in int8"),
            (Provider::Cpu, Bf16, with_bf16(), "`provider: cpu` does not compute in bf16"),
        ] {
            let error = choose(provider, precision, &machine, &|_| true).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let bare = Machine { libraries: Vec::new(), ..with_card() };
        let error = choose(Provider::Tensorrt, Fp16, &bare, &|_| true).unwrap_err();
        assert!(error.to_string().contains("these libraries are not found: "), "{error}");
        assert!(error.to_string().contains("nvinfer"), "{error}");
        assert!(choose(Provider::TensorrtRtx, Fp32, &bare, &|_| true).is_ok(), "it brings its libraries");
        if !cfg!(windows) {
            assert!(choose(Provider::Directml, Fp32, &plain(), &|_| true).is_err());
        }
    }

    #[test]
    fn the_driver_decides_which_cuda_a_plug_in_is_built_for() {
        let info = ProviderInfo::of(Provider::TensorrtRtx).unwrap();
        let old = Machine { nvidia_driver: Some("570.1".into()), ..plain() };
        assert!(info.package(&old).unwrap().name.ends_with("cu12"));
        assert!(info.package(&with_card()).unwrap().name.ends_with("cu13"));
    }
}
