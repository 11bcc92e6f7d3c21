//! Flags and lamps.

pub enum Signal {
    Flag(char),
    Lamp { colour: Colour, flashes: u8 },
    Horn,
}

#[repr(u8)]
pub enum Colour {
    Red = 1,
    Green = 2,
    White = 4,
}

impl From<char> for Signal {
    fn from(letter: char) -> Self {
        match letter {
            'a'..='z' => Self::Flag(letter),
            '!' => Self::Horn,
            _ => Self::Lamp { colour: Colour::White, flashes: letter as u8 },
        }
    }
}
