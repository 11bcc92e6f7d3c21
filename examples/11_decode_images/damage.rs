//! The files: a few good ones in every format, and any number of damaged ones.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbaImage};

/// The formats that the decoder can write as well as read.
const FORMATS: [ImageFormat; 12] = [
    ImageFormat::Bmp,
    ImageFormat::Farbfeld,
    ImageFormat::Gif,
    ImageFormat::Hdr,
    ImageFormat::Ico,
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Pnm,
    ImageFormat::Qoi,
    ImageFormat::Tga,
    ImageFormat::Tiff,
    ImageFormat::WebP,
];

/// The number of bytes that hold the header in most formats.
const HEADER: usize = 32;

/// False sizes: 0, sizes at which something overflows, and sizes that are merely large.
const LIES: [u32; 8] = [0, 0x20, 0x1000, 0x3fff, 0x7fff, 0xffff, 0x0100_0000, 0xffff_ffff];

/// One file, which is an input of the map. It comes back with its failure.
pub(crate) struct File {
    pub(crate) number: u64,
    pub(crate) format: ImageFormat,
    pub(crate) bytes: Vec<u8>,
}

/// Good files, each with its format.
pub(crate) struct Good(Vec<(ImageFormat, Vec<u8>)>);

impl Good {
    /// For each format, a small picture in each kind of pixels that the format takes.
    pub(crate) fn new() -> Self {
        let rgba = DynamicImage::from(RgbaImage::from_fn(45, 31, |x, y| {
            // One half is smooth and the other is noise, so that compressors use all their methods.
            let noise = if x < 22 { 0 } else { (x * x * 31 + y * y * y * 17) % 97 };
            [x * 5 + noise, y * 8, (x + y) * 3 + noise, 255 - noise].map(|value| value as u8).into()
        }));
        let pictures: [DynamicImage; 6] = [
            rgba.to_luma8().into(),
            rgba.to_rgb8().into(),
            rgba.to_rgb16().into(),
            rgba.to_rgba16().into(),
            rgba.to_rgb32f().into(),
            rgba,
        ];
        let mut files = Vec::new();
        for format in FORMATS {
            for picture in &pictures {
                let mut file = Cursor::new(Vec::new());
                if picture.write_to(&mut file, format).is_ok() {
                    files.push((format, file.into_inner()));
                }
            }
        }
        Self(files)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The damaged file of this number. It is always the same for the same seed. It is cut off, or has some
    /// flipped bits, an inserted piece, or a false size in its header.
    pub(crate) fn damaged(&self, seed: u64, number: u64) -> File {
        let mut random = Random(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ number);
        let (format, good) = &self.0[random.below(self.count())];
        let mut bytes = good.clone();
        match random.below(4) {
            0 => bytes.truncate(random.below(good.len())),
            1 => {
                for _ in 0..=random.below(8) {
                    let place = random.place(good.len());
                    bytes[place] ^= 1 << random.below(8);
                }
            }
            2 => {
                // Insert a piece of this or of another file.
                let (_, other) = &self.0[random.below(self.count())];
                let from = random.place(other.len());
                let length = random.below(other.len() - from).min(1 << random.below(10));
                let to = random.place(good.len());
                bytes.splice(to..to, other[from..from + length].iter().copied());
            }
            _ => {
                // Sizes are in the first bytes. They have 2 or 4 bytes, in either byte order.
                let lie = LIES[random.below(LIES.len())];
                let [big, little] = [lie.to_be_bytes(), lie.to_le_bytes()];
                let lie = [&big[..], &little[..], &big[2..], &little[..2]][random.below(4)];
                let place = random.below(HEADER.min(good.len()) - lie.len());
                bytes[place..place + lie.len()].copy_from_slice(lie);
            }
        }
        if *format == ImageFormat::Png {
            mend_checksum(&mut bytes);
        }
        File { number, format: *format, bytes }
    }
}

/// Corrects the checksum of the header, because a PNG with a wrong one is refused before its sizes are read.
fn mend_checksum(png: &mut [u8]) {
    let Some(([_, _, _, _, header @ ..], checksum)) =
        png.get_mut(8..33).and_then(|it| it.split_last_chunk_mut())
    else {
        return;
    };
    let mut crc = u32::MAX;
    for byte in header {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    *checksum = (!crc).to_be_bytes();
}

/// splitmix64, which is small and seeded, and whose first number is as good as the others.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or 0 if `end` is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A place in a file. Half of the places are in its first bytes, because the header is there.
    fn place(&mut self, length: usize) -> usize {
        let end = if self.below(2) == 0 { length.min(HEADER) } else { length };
        self.below(end)
    }
}
