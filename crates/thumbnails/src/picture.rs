//! The work: a [`Picture`] becomes a [`Thumbnail`], or is [`NotMade`] into one.

use std::error::Error;
use std::fmt;
use std::io::Cursor;

use axum::body::Bytes;
use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits};
use longshore::Context;

use crate::checked::Checked;

/// The largest width and height of a thumbnail in pixels.
pub const SIDE_MAX: u32 = 128;

/// The decoder's own limit on its allocations. It is far above the memory limit of a container, which acts
/// first. It is there because no container survives an allocation that the system refuses: that ends the
/// process.
const ALLOCATED_BYTES_MAX: u64 = 512 << 20;

/// The bytes of a picture as a client has sent them.
#[derive(Debug, Clone)]
pub struct Picture(pub Bytes);

/// A small picture, as the bytes of a PNG.
#[derive(Debug, Clone)]
pub struct Thumbnail(pub Vec<u8>);

/// The reason why a picture has no thumbnail.
#[derive(Debug)]
pub enum NotMade {
    /// The decoder would need more memory than any picture may.
    TooLarge(ImageError),
    /// The bytes are no picture, or not a whole one.
    NotAPicture(ImageError),
}

impl Picture {
    /// Decodes the picture, and makes it small.
    ///
    /// The decoder of PNG reads a little for each line, and so passes a checkpoint for each line. The decoder
    /// of JPEG reads the whole picture at its begin, and passes none while it decodes.
    ///
    /// # Errors
    ///
    /// If the picture cannot be decoded, or needs more memory than any picture may.
    ///
    /// # Panics
    ///
    /// In a container, it unwinds at a checkpoint when its call was cancelled.
    pub fn thumbnail(&self) -> Result<Thumbnail, NotMade> {
        let picture = self.decode().map_err(NotMade::of)?;
        Context::checkpoint();
        let small = picture.thumbnail(SIDE_MAX, SIDE_MAX);
        let mut png = Cursor::new(Vec::new());
        // The formats have no pixels that a PNG cannot have.
        small.write_to(&mut png, ImageFormat::Png).map_err(NotMade::of)?;
        Ok(Thumbnail(png.into_inner()))
    }

    fn decode(&self) -> Result<DynamicImage, ImageError> {
        let bytes = Checked::new(Cursor::new(&self.0[..]));
        let mut reader = ImageReader::new(bytes).with_guessed_format()?;
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(ALLOCATED_BYTES_MAX);
        reader.limits(limits);
        reader.decode()
    }
}

impl NotMade {
    fn of(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooLarge(error),
            _ => Self::NotAPicture(error),
        }
    }
}

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(_) => write!(f, "the picture is too large"),
            Self::NotAPicture(_) => write!(f, "the bytes are no picture"),
        }
    }
}

impl Error for NotMade {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooLarge(error) | Self::NotAPicture(error) => Some(error),
        }
    }
}
