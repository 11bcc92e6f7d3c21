//! Pictures that clients send: good ones, slow ones, cut off ones and bombs.

use std::io::Cursor;
use std::sync::LazyLock;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};

/// A picture of 600 × 400 pixels.
pub(crate) static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let picture = RgbImage::from_fn(600, 400, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
    encoded(picture, ImageFormat::Png)
});

/// The same as a JPEG.
pub(crate) static JPEG: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let picture = image::load_from_memory(&GOOD).expect("it is a picture");
    encoded(picture, ImageFormat::Jpeg)
});

/// A picture of 9 million pixels, which takes long.
pub(crate) static SLOW: LazyLock<Vec<u8>> = LazyLock::new(|| {
    encoded(GrayImage::from_fn(3000, 3000, |x, y| Luma([(x / 32 + y / 32) as u8])), ImageFormat::Png)
});

/// A PNG of some bytes that declares 20 000 × 20 000 grey pixels, which take 400 MB.
pub(crate) static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let small = encoded(GrayImage::from_pixel(8, 8, Luma([7])), ImageFormat::Png);
    declared_larger(small, 20_000)
});

/// The same in colour, which takes 1.6 GB.
pub(crate) static LARGER_BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let small = encoded(RgbaImage::from_pixel(8, 8, Rgba([7; 4])), ImageFormat::Png);
    declared_larger(small, 20_000)
});

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).expect("it can be encoded");
    bytes.into_inner()
}

/// A PNG whose header declares this width and height.
fn declared_larger(mut png: Vec<u8>, side: u32) -> Vec<u8> {
    // The signature has 8 bytes, and the length of the header 4. Its name, its 13 bytes and its checksum
    // follow. Width and height come first.
    assert_eq!(&png[12..16], b"IHDR");
    png[16..20].copy_from_slice(&side.to_be_bytes());
    png[20..24].copy_from_slice(&side.to_be_bytes());
    let checksum = crc(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&checksum);
    assert!(png.len() < 200, "a bomb is small: {}", png.len());
    png
}

/// The checksum of a chunk of a PNG (CRC-32 of IEEE 802.3).
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
