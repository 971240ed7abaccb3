//! A tiny network for each family of image backbones: its topology, in the nodes that exporters write, at a few
//! channels and 32 × 32 pixels.

mod convolutional;
mod dense;
mod transformers;

use super::blocks::{Act, Net};
use crate::graph::onnx::Select;
use crate::graph::onnx::proto::ModelProto;
use convolutional::Mobile;
use transformers::Plain;

/// A family's tiny network, and what is known of it.
pub struct Family {
    /// What it is called.
    pub name: &'static str,
    /// The families of the catalogue that it stands for; of none where users bring such models themselves.
    pub stands_for: &'static [&'static str],
    /// The version of the operators.
    pub opset: i64,
    /// Adds the nodes.
    write: fn(&mut Net),
    /// Where it is cut: the tensor, what is taken, and the shape of one row of that.
    pub cuts: &'static [(&'static str, Select, &'static [usize])],
    /// Whether the runtime gives a sample the same bits in every batch; an engine that does not runs one at a time.
    pub steady: bool,
    /// The same shapes for pictures of 64 × 64 pixels, or the node that prevents these.
    pub larger: Result<&'static [&'static [usize]], &'static str>,
}

impl Family {
    /// The model for pictures `image` [batch, 3, 32, 32]; `batch` is one that the export froze.
    pub fn model(&self, batch: Option<usize>) -> ModelProto {
        let mut net = Net::new(self.name, self.opset, 32, batch);
        (self.write)(&mut net);
        net.finish()
    }
}

const CLASS: Select = Select::Token { index: 0 };
const PATCH_MEAN: Select = Select::MeanTokens { from: 1, to: None };
const MEAN: Select = Select::MeanTokens { from: 0, to: None };

/// All of them.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "vgg",
        stands_for: &["VGG"],
        opset: 11,
        write: |n| convolutional::vgg(n, false),
        cuts: &[("features", Select::Flatten, &[192]), ("features", Select::All, &[12, 4, 4])],
        steady: true,
        larger: Ok(&[&[768], &[12, 8, 8]]),
    },
    Family {
        name: "vgg_bn",
        stands_for: &["VGG"],
        opset: 13,
        write: |n| convolutional::vgg(n, true),
        cuts: &[("features", Select::Gap, &[12])],
        steady: true,
        larger: Ok(&[&[12]]),
    },
    Family {
        name: "resnet",
        stands_for: &["ResNet"],
        opset: 9,
        write: |n| convolutional::resnet(n, false, false),
        cuts: &[("pooled", Select::All, &[8]), ("c2", Select::All, &[4, 8, 8]), ("c4", Select::All, &[8, 2, 2])],
        steady: true,
        larger: Ok(&[&[8], &[4, 16, 16], &[8, 4, 4]]),
    },
    Family {
        name: "resnet_bottleneck",
        stands_for: &["ResNet"],
        opset: 17,
        write: |n| convolutional::resnet(n, true, false),
        cuts: &[("pooled", Select::All, &[16]), ("c3", Select::Gap, &[12])],
        steady: true,
        larger: Ok(&[&[16], &[12]]),
    },
    Family {
        name: "resnext",
        stands_for: &[],
        opset: 13,
        write: |n| convolutional::grouped(n, false),
        cuts: &[("pooled", Select::All, &[16]), ("c2", Select::All, &[12, 8, 8])],
        steady: true,
        larger: Ok(&[&[16], &[12, 16, 16]]),
    },
    Family {
        name: "regnet_y",
        stands_for: &["RegNet"],
        opset: 17,
        write: |n| convolutional::grouped(n, true),
        cuts: &[("pooled", Select::All, &[16]), ("c3", Select::All, &[16, 4, 4])],
        steady: true,
        larger: Ok(&[&[16], &[16, 8, 8]]),
    },
    Family {
        name: "densenet",
        stands_for: &["DenseNet"],
        opset: 17,
        write: convolutional::densenet,
        cuts: &[("pooled", Select::All, &[16]), ("c2", Select::All, &[16, 8, 8]), ("c3", Select::Gap, &[16])],
        steady: true,
        larger: Ok(&[&[16], &[16, 16, 16], &[16]]),
    },
    Family {
        name: "inception",
        stands_for: &["Inception"],
        opset: 13,
        write: convolutional::inception,
        cuts: &[("pooled", Select::All, &[20]), ("c2", Select::All, &[14, 8, 8]), ("c3", Select::All, &[20, 4, 4])],
        steady: true,
        larger: Ok(&[&[20], &[14, 16, 16], &[20, 8, 8]]),
    },
    Family {
        name: "squeezenet",
        stands_for: &["SqueezeNet"],
        opset: 17,
        write: convolutional::squeezenet,
        cuts: &[("c3", Select::Gap, &[12]), ("c2", Select::All, &[12, 8, 8])],
        steady: true,
        larger: Ok(&[&[12], &[12, 16, 16]]),
    },
    Family {
        name: "mobilenet_v2",
        stands_for: &["MobileNet"],
        opset: 11,
        write: |n| convolutional::mobile(n, Mobile { act: Act::Relu6, gate: None, same: false }),
        cuts: &[("pooled", Select::All, &[24]), ("c3", Select::All, &[16, 4, 4])],
        steady: true,
        larger: Ok(&[&[24], &[16, 8, 8]]),
    },
    Family {
        name: "mobilenet_v3",
        stands_for: &["MobileNet"],
        opset: 17,
        write: |n| {
            convolutional::mobile(n, Mobile { act: Act::HardSwish, gate: Some(Act::HardSigmoid), same: false });
        },
        cuts: &[("pooled", Select::All, &[24]), ("c2", Select::All, &[12, 8, 8])],
        steady: true,
        larger: Ok(&[&[24], &[12, 16, 16]]),
    },
    Family {
        name: "mobilenet_v3_opset_13",
        stands_for: &["MobileNet"],
        opset: 13,
        write: |n| {
            convolutional::mobile(n, Mobile { act: Act::HardSwish, gate: Some(Act::HardSigmoid), same: false });
        },
        cuts: &[("pooled", Select::All, &[24])],
        steady: true,
        larger: Ok(&[&[24]]),
    },
    Family {
        name: "efficientnet",
        stands_for: &["EfficientNet"],
        opset: 17,
        write: |n| convolutional::mobile(n, Mobile { act: Act::Silu, gate: Some(Act::Sigmoid), same: false }),
        cuts: &[("pooled", Select::All, &[24]), ("c3", Select::Gap, &[16])],
        steady: true,
        larger: Ok(&[&[24], &[16]]),
    },
    Family {
        name: "efficientnet_lite",
        stands_for: &["EfficientNet-Lite"],
        opset: 17,
        write: |n| convolutional::mobile(n, Mobile { act: Act::Relu6, gate: None, same: true }),
        cuts: &[("pooled", Select::All, &[24]), ("c2", Select::All, &[12, 8, 8])],
        steady: true,
        larger: Ok(&[&[24], &[12, 16, 16]]),
    },
    Family {
        name: "convnext",
        stands_for: &["ConvNeXt"],
        opset: 13,
        write: convolutional::convnext,
        cuts: &[("pooled", Select::All, &[12]), ("c2", Select::All, &[8, 8, 8])],
        // ONNX Runtime moves the transposes into the norms, and then sums over the channels of all samples at once.
        steady: false,
        larger: Ok(&[&[12], &[8, 16, 16]]),
    },
    Family {
        name: "convnext_opset_17",
        stands_for: &["ConvNeXt"],
        opset: 17,
        write: convolutional::convnext,
        cuts: &[("pooled", Select::All, &[12]), ("c3", Select::Gap, &[12])],
        steady: true,
        larger: Ok(&[&[12], &[12]]),
    },
    Family {
        name: "vit",
        stands_for: &["ViT"],
        opset: 17,
        write: |n| transformers::plain(n, Plain { act: Act::Gelu, scaled: false, projected: false }),
        cuts: &[
            ("tokens", CLASS, &[16]),
            ("tokens", PATCH_MEAN, &[16]),
            ("tokens", Select::Tokens { from: 1 }, &[16, 16]),
        ],
        steady: true,
        larger: Ok(&[&[16], &[16], &[64, 16]]),
    },
    Family {
        name: "dinov2",
        stands_for: &["DINOv2", "BLIP"],
        opset: 13,
        write: |n| transformers::plain(n, Plain { act: Act::Gelu, scaled: true, projected: false }),
        cuts: &[("tokens", CLASS, &[16]), ("tokens", Select::All, &[17, 16])],
        steady: true,
        larger: Ok(&[&[16], &[65, 16]]),
    },
    Family {
        name: "clip_vit",
        stands_for: &["CLIP"],
        opset: 17,
        write: |n| transformers::plain(n, Plain { act: Act::QuickGelu, scaled: false, projected: true }),
        cuts: &[("embeds", Select::All, &[8]), ("tokens", Select::All, &[17, 16])],
        steady: true,
        larger: Ok(&[&[8], &[65, 16]]),
    },
    Family {
        name: "clip_sequence_first",
        stands_for: &["CLIP"],
        opset: 14,
        write: transformers::sequence_first,
        cuts: &[("tokens", CLASS, &[16]), ("tokens", PATCH_MEAN, &[16])],
        steady: true,
        larger: Ok(&[&[16], &[16]]),
    },
    Family {
        name: "clip_resnet",
        stands_for: &["CLIP"],
        opset: 17,
        write: transformers::attention_pool,
        cuts: &[("embeds", Select::All, &[16]), ("c3", Select::All, &[16, 4, 4])],
        steady: true,
        larger: Ok(&[&[16], &[16, 8, 8]]),
    },
    Family {
        name: "swin",
        stands_for: &[],
        opset: 17,
        write: transformers::swin,
        cuts: &[("pooled", Select::All, &[16]), ("stage0", MEAN, &[8]), ("tokens", Select::All, &[16, 16])],
        steady: true,
        larger: Err("`/layers.0.blocks.0/attn/Reshape_1`"),
    },
    Family {
        name: "segformer",
        stands_for: &["SegFormer"],
        opset: 17,
        write: transformers::segformer,
        cuts: &[("c3", Select::Gap, &[16]), ("c2", Select::All, &[8, 8, 8])],
        steady: true,
        larger: Ok(&[&[16], &[8, 16, 16]]),
    },
    Family {
        name: "mobilevit",
        stands_for: &["MobileViT"],
        opset: 17,
        write: transformers::mobilevit,
        cuts: &[("c3", Select::Gap, &[8]), ("c2", Select::All, &[8, 8, 8])],
        steady: true,
        larger: Err("`/Reshape`"),
    },
    Family {
        name: "efficientformer",
        stands_for: &["EfficientFormer"],
        opset: 17,
        write: transformers::efficientformer,
        cuts: &[("tokens", MEAN, &[16]), ("c2", Select::All, &[12, 8, 8])],
        steady: true,
        larger: Err("`/stages.1/attn/Add`"),
    },
    Family {
        name: "detr",
        stands_for: &["DETR"],
        opset: 16,
        write: transformers::detr,
        cuts: &[("c4", Select::Gap, &[16]), ("encoded", Select::All, &[4, 8])],
        steady: true,
        larger: Ok(&[&[16], &[16, 8]]),
    },
    Family {
        name: "ssd",
        stands_for: &["SSD"],
        opset: 11,
        write: dense::ssd,
        cuts: &[("c4", Select::Gap, &[12]), ("c3", Select::All, &[8, 8, 8]), ("boxes", Select::All, &[160, 4])],
        steady: true,
        larger: Ok(&[&[12], &[8, 16, 16], &[640, 4]]),
    },
    Family {
        name: "faster_rcnn",
        stands_for: &["Faster R-CNN"],
        opset: 13,
        write: dense::pyramid,
        cuts: &[("c4", Select::Gap, &[16]), ("p2", Select::All, &[6, 8, 8]), ("p4", Select::All, &[6, 2, 2])],
        steady: true,
        larger: Ok(&[&[16], &[6, 16, 16], &[6, 4, 4]]),
    },
    Family {
        name: "yolo_v8",
        stands_for: &["YOLO"],
        opset: 17,
        write: |n| dense::yolo(n, Act::Silu),
        cuts: &[("p3", Select::Gap, &[12]), ("p2", Select::All, &[8, 8, 8])],
        steady: true,
        larger: Ok(&[&[12], &[8, 16, 16]]),
    },
    Family {
        name: "yolo_v3",
        stands_for: &["YOLO"],
        opset: 13,
        write: |n| dense::yolo(n, Act::LeakyRelu),
        cuts: &[("p3", Select::All, &[12, 4, 4])],
        steady: true,
        larger: Ok(&[&[12, 8, 8]]),
    },
    Family {
        name: "unet",
        stands_for: &["U-Net"],
        opset: 17,
        write: dense::unet,
        cuts: &[("c3", Select::Gap, &[12]), ("c1", Select::All, &[6, 32, 32]), ("mask", Select::All, &[1, 32, 32])],
        steady: true,
        larger: Ok(&[&[12], &[6, 64, 64], &[1, 64, 64]]),
    },
    Family {
        name: "deeplab",
        stands_for: &["DeepLabV3 and FCN"],
        opset: 17,
        write: dense::deeplab,
        cuts: &[("c4", Select::Gap, &[16]), ("aspp", Select::All, &[18, 4, 4]), ("out", Select::All, &[5, 32, 32])],
        steady: true,
        larger: Ok(&[&[16], &[18, 8, 8], &[5, 64, 64]]),
    },
    Family {
        name: "lraspp",
        stands_for: &["DeepLabV3 and LR-ASPP"],
        opset: 17,
        write: dense::lraspp,
        cuts: &[("high", Select::Gap, &[12]), ("low", Select::All, &[8, 8, 8]), ("out", Select::All, &[5, 8, 8])],
        steady: true,
        larger: Ok(&[&[12], &[8, 16, 16], &[5, 16, 16]]),
    },
    Family {
        name: "pidnet",
        stands_for: &["PIDNet"],
        opset: 17,
        write: dense::pidnet,
        cuts: &[("features", Select::Gap, &[8]), ("features", Select::All, &[8, 16, 16])],
        steady: true,
        larger: Ok(&[&[8], &[8, 32, 32]]),
    },
];
