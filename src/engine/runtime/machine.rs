//! What this machine has that a provider may need. Plain data, so that a test can make one up.

use super::package::Platform;

/// A machine, as far as providers care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// For which pinned libraries are built; `None` if for none of them.
    pub platform: Option<Platform>,
    /// Whether the processor computes in bf16 (AVX512-BF16 or AMX-BF16 on x86).
    pub bf16: bool,
    /// The version of the NVIDIA driver, such as `580.65.06`, if one is loaded.
    pub nvidia_driver: Option<String>,
    /// The libraries of [`WANTED_LIBRARIES`] that can be loaded.
    pub libraries: Vec<&'static str>,
}

/// Libraries that a provider needs and that no wheel of ours brings.
pub const WANTED_LIBRARIES: &[&str] = if cfg!(windows) {
    &["cudart64_13.dll", "cublas64_13.dll", "cublasLt64_13.dll", "cudnn64_9.dll", "nvinfer_10.dll"]
} else {
    &["libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudnn.so.9", "libnvinfer.so.10"]
};

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        let nvidia_driver = nvidia_driver();
        // Loading libraries runs their code; without a driver none of them is of use.
        let wanted = if nvidia_driver.is_some() { WANTED_LIBRARIES } else { &[] };
        let libraries = wanted.iter().copied().filter(|name| can_load(name)).collect();
        Self { platform: Platform::here().ok(), bf16: has_bf16(), nvidia_driver, libraries }
    }

    /// Whether the processor is an x86 one.
    pub fn is_x86(&self) -> bool {
        matches!(self.platform, Some(Platform::LinuxX86 | Platform::WindowsX86))
    }

    /// The driver's major version.
    pub fn nvidia_major(&self) -> Option<u32> {
        self.nvidia_driver.as_ref()?.split('.').next()?.parse().ok()
    }
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    // AMX-BF16 is bit 22 of EDX of leaf 7 (Intel's manual, volume 2A, CPUID).
    let leaf = std::arch::x86_64::__cpuid_count(7, 0);
    std::arch::is_x86_feature_detected!("avx512bf16") || leaf.edx >> 22 & 1 == 1
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

/// The version that the loaded kernel driver tells on Linux; on Windows only that there is one.
fn nvidia_driver() -> Option<String> {
    if cfg!(windows) {
        return can_load("nvcuda.dll").then(|| "unknown".into());
    }
    // `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 …`
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    text.split_whitespace()
        .find(|word| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        .map(str::to_string)
}

fn can_load(name: &str) -> bool {
    // SAFETY: these are libraries of the system's own search path whose initialisers have no requirements.
    unsafe { libloading::Library::new(name) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::here();
        assert_eq!(machine.is_x86(), cfg!(target_arch = "x86_64") && machine.platform.is_some());
        let with_driver = Machine { nvidia_driver: Some("580.65.06".into()), ..machine };
        assert_eq!(with_driver.nvidia_major(), Some(580));
        assert!(!can_load("libof-nothing.so.1"));
    }
}
