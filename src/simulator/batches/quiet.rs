//! Worlds in which nothing goes wrong but one poison input.
