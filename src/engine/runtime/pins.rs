//! The pinned packages: every library that caft may load, by the digest of the wheel that carries it.

use super::package::{Package, PinnedWheel, Platform};

/// ONNX Runtime with its CPU provider; on macOS with Core ML too.
pub static ONNX_RUNTIME: Package = Package {
    name: "onnxruntime",
    version: "1.31.1",
    wheels: &[
        PinnedWheel {
            platform: Platform::LinuxX86,
            abi: "cp312",
            tag: "manylinux_2_28_x86_64",
            sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
            keep: &["onnxruntime/capi/libonnxruntime.so.1.31.1"],
        },
        PinnedWheel {
            platform: Platform::LinuxArm,
            abi: "cp312",
            tag: "manylinux_2_28_aarch64",
            sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
            keep: &["onnxruntime/capi/libonnxruntime.so.1.31.1"],
        },
        PinnedWheel {
            platform: Platform::MacArm,
            abi: "cp312",
            tag: "macosx_14_0_arm64",
            sha256: "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
            keep: &["onnxruntime/capi/libonnxruntime.1.31.1.dylib"],
        },
        PinnedWheel {
            platform: Platform::WindowsX86,
            abi: "cp312",
            tag: "win_amd64",
            sha256: "ae8a9a351efda685cc59a66226cdefaa37a126c1d66872ca23a2de9425326130",
            keep: &["onnxruntime/capi/onnxruntime.dll"],
        },
    ],
};

/// ONNX Runtime with its CUDA 13 and TensorRT providers.
pub static ONNX_RUNTIME_GPU: Package = Package {
    name: "onnxruntime-gpu",
    version: "1.31.1",
    wheels: &[
        PinnedWheel {
            platform: Platform::LinuxX86,
            abi: "cp312",
            tag: "manylinux_2_28_x86_64",
            sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
            keep: &[
                "onnxruntime/capi/libonnxruntime.so.1.31.1",
                "onnxruntime/capi/libonnxruntime_providers_shared.so",
                "onnxruntime/capi/libonnxruntime_providers_cuda.so",
                "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
            ],
        },
        PinnedWheel {
            platform: Platform::WindowsX86,
            abi: "cp312",
            tag: "win_amd64",
            sha256: "2bb1e9373baba88f6415257f5b6a589d23e23c16004f7d89adf4344eada5749e",
            keep: &[
                "onnxruntime/capi/onnxruntime.dll",
                "onnxruntime/capi/onnxruntime_providers_shared.dll",
                "onnxruntime/capi/onnxruntime_providers_cuda.dll",
                "onnxruntime/capi/onnxruntime_providers_tensorrt.dll",
            ],
        },
    ],
};

/// The plug-in provider of Intel's OpenVINO, with OpenVINO.
pub static OPENVINO: Package = Package {
    name: "onnxruntime-ep-openvino",
    version: "1.8.1",
    wheels: &[
        PinnedWheel {
            platform: Platform::LinuxX86,
            abi: "none",
            tag: "manylinux_2_28_x86_64",
            sha256: "3832643158c8c187fcab6db661cde2a8c06a2b3559d95d0f2411ac0e51c5e924",
            keep: &["onnxruntime_ep_openvino"],
        },
        PinnedWheel {
            platform: Platform::WindowsX86,
            abi: "none",
            tag: "win_amd64",
            sha256: "1acd878be173b02bb8b953460f2f59b121e5f6e47ebc6aad490c0590cf6718fb",
            keep: &["onnxruntime_ep_openvino"],
        },
    ],
};

/// The plug-in provider of WebGPU (Vulkan, Metal or Direct3D 12 below it).
pub static WEBGPU: Package = Package {
    name: "onnxruntime-ep-webgpu",
    version: "0.4.0",
    wheels: &[
        PinnedWheel {
            platform: Platform::LinuxX86,
            abi: "none",
            tag: "manylinux_2_28_x86_64",
            sha256: "5d8c961eda91a88961cad1fb7621f389f006b18497d6ea9ecf96f729f066cbfb",
            keep: &["onnxruntime_ep_webgpu"],
        },
        PinnedWheel {
            platform: Platform::LinuxArm,
            abi: "none",
            tag: "manylinux_2_28_aarch64",
            sha256: "17f660db53b1a509c63e721ac6784a2daa1c4e91a968523ee9986505ee5b0a55",
            keep: &["onnxruntime_ep_webgpu"],
        },
        PinnedWheel {
            platform: Platform::MacArm,
            abi: "none",
            tag: "macosx_14_0_arm64",
            sha256: "8d0a91d44b43d931c3068b9134aed9770f27803e353c2b58c93e1700bb68bcca",
            keep: &["onnxruntime_ep_webgpu"],
        },
        PinnedWheel {
            platform: Platform::WindowsX86,
            abi: "none",
            tag: "win_amd64",
            sha256: "7db646669d1a2390551da675115ea125e68cb3d4d2c3a2d6e463372bf8d6ea87",
            keep: &["onnxruntime_ep_webgpu"],
        },
    ],
};

/// The plug-in provider of NVIDIA's TensorRT for RTX, for drivers of CUDA 12.
pub static TENSORRT_RTX_CUDA12: Package = Package {
    name: "onnxruntime-ep-nv-tensorrt-rtx-cu12",
    version: "0.5.0",
    wheels: &[
        PinnedWheel {
            platform: Platform::LinuxX86,
            abi: "none",
            tag: "manylinux_2_28_x86_64",
            sha256: "d71fcbaf4adc627d82fffa6bbac9300a4bfc58fbfa604929b601d22211083d47",
            keep: &["onnxruntime_ep_nv_tensorrt_rtx"],
        },
        PinnedWheel {
            platform: Platform::WindowsX86,
            abi: "none",
            tag: "win_amd64",
            sha256: "bcf6da6490f5c0796ae02165732edd919c1ff8f7d7648b14a4a76385cbf6d7e8",
            keep: &["onnxruntime_ep_nv_tensorrt_rtx"],
        },
    ],
};

/// The plug-in provider of NVIDIA's TensorRT for RTX, for drivers of CUDA 13.
pub static TENSORRT_RTX_CUDA13: Package = Package {
    name: "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    version: "0.5.0",
    wheels: &[
        PinnedWheel {
            platform: Platform::LinuxX86,
            abi: "none",
            tag: "manylinux_2_28_x86_64",
            sha256: "32f575c633d171b4edf4b53d3bb22b72a6c9c0a850d2982ce9a788a5d40d3298",
            keep: &["onnxruntime_ep_nv_tensorrt_rtx"],
        },
        PinnedWheel {
            platform: Platform::WindowsX86,
            abi: "none",
            tag: "win_amd64",
            sha256: "609b19f7236c8522ef005a9f763003a78f492e5d871afad39fe1b247760eb3c7",
            keep: &["onnxruntime_ep_nv_tensorrt_rtx"],
        },
    ],
};

/// All of them.
pub static ALL: [&Package; 6] =
    [&ONNX_RUNTIME, &ONNX_RUNTIME_GPU, &OPENVINO, &WEBGPU, &TENSORRT_RTX_CUDA12, &TENSORRT_RTX_CUDA13];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Sha256;

    #[test]
    fn every_wheel_is_pinned_once_for_a_platform() {
        for package in ALL {
            for wheel in package.wheels {
                assert!(wheel.sha256.parse::<Sha256>().is_ok(), "{}", package.name);
                assert!(!wheel.keep.is_empty());
                assert!(std::ptr::eq(package.wheel(wheel.platform).unwrap(), wheel), "{}", package.name);
            }
        }
        for platform in [Platform::LinuxX86, Platform::LinuxArm, Platform::MacArm, Platform::WindowsX86] {
            assert!(ONNX_RUNTIME.wheel(platform).is_ok());
        }
    }
}
