//! Colours for terminals: `color`, `rgb`, `render`, `bar`; and sizes of data as text.
//!
//! Invariant: a colour is four bytes: a system colour as its number below zero, else red, green and blue.

use std::{fmt::Write, sync::Arc};

use arrow::array::{ArrayRef, BinaryArray, Decimal128Array, ListArray, StringArray, StringBuilder, new_empty_array};
use arrow::{buffer::OffsetBuffer, datatypes::DataType};
use headwater_engine::error::{Error, Result};

use super::{
    Family, Function,
    column::{Bool, F64, I64, Read, Str},
    define::{self, Definition, scalar},
    kernel::{invalid, whole},
    scalar::{Call, Kernel},
};
use crate::{kernels::render::java_double, sketches::Sketch};

/// The system colours in the order of their numbers.
const NAMES: [&str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const RESET: &str = "\u{1b}[0m";

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    define::build(vec![
        rgb(),
        color(),
        render(),
        bar(),
        data_size("parse_data_size"),
        data_size("parse_presto_data_size"),
        groups(),
    ])
}

fn string(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::String, name, summary)
}

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Color(i32);

impl Color {
    fn system(number: usize) -> Self {
        Self(-(number as i32) - 1)
    }

    fn parse(text: &str) -> Result<Self> {
        let unknown = || invalid(format!("invalid color: '{text}'"));
        if let Some(number) = NAMES.iter().position(|name| *name == text) {
            return Ok(Self::system(number));
        }
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 3).ok_or_else(unknown)?;
        let parts = digits.chars().map(|digit| digit.to_digit(16).map(|digit| digit as i32 * 17));
        match parts.collect::<Option<Vec<_>>>().ok_or_else(unknown)?.as_slice() {
            [red, green, blue] => Ok(Self(red << 16 | green << 8 | blue)),
            _ => Err(unknown()),
        }
    }

    fn rgb(self) -> Result<[f32; 3]> {
        if self.0 < 0 {
            return Err(invalid("not a valid RGB color"));
        }
        Ok([self.0 >> 16, self.0 >> 8, self.0].map(|part| (part & 0xFF) as f32))
    }

    fn escape(self) -> String {
        let number = if self.0 < 0 {
            -self.0 - 1
        } else {
            let part = |shift: i32| (self.0 >> shift & 0xFF) * 6 / 256;
            16 + part(16) * 36 + part(8) * 6 + part(0)
        };
        format!("\u{1b}[38;5;{number}m")
    }

    /// The colour at a share of the way between two, by hue, saturation and brightness.
    fn between(share: f32, low: Self, high: Self) -> Result<Self> {
        let (low, high) = (hsb(low.rgb()?), hsb(high.rgb()?));
        let share = share.clamp(0.0, 1.0);
        let [hue, saturation, brightness] = [0, 1, 2].map(|at| share * (high[at] - low[at]) + low[at]);
        Ok(of_hsb(hue, saturation, brightness))
    }
}

/// The text of a colour's bytes.
pub fn text(bytes: &[u8]) -> String {
    let Ok(color) = read(bytes) else { return String::new() };
    match usize::try_from(-color.0 - 1).ok().and_then(|number| NAMES.get(number)) {
        Some(name) => (*name).to_owned(),
        None => format!("#{:06x}", color.0),
    }
}

fn read(bytes: &[u8]) -> Result<Color> {
    let bytes = bytes.try_into().map_err(|_| Error::internal("a color is four bytes"))?;
    Ok(Color(i32::from_le_bytes(bytes)))
}

fn hsb([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let saturation = if most == 0.0 { 0.0 } else { (most - least) / most };
    let span = most - least;
    let hue = if span == 0.0 {
        0.0
    } else {
        let [r, g, b] = [red, green, blue].map(|part| (most - part) / span);
        let sixth = if red == most {
            b - g
        } else if green == most {
            2.0 + r - b
        } else {
            4.0 + g - r
        } / 6.0;
        if sixth < 0.0 { sixth + 1.0 } else { sixth }
    };
    [hue, saturation, most / 255.0]
}

fn of_hsb(hue: f32, saturation: f32, brightness: f32) -> Color {
    let h = (hue - hue.floor()) * 6.0;
    let rest = h - h.floor();
    let p = brightness * (1.0 - saturation);
    let q = brightness * (1.0 - saturation * rest);
    let t = brightness * (1.0 - saturation * (1.0 - rest));
    let parts = match h as i32 {
        0 => [brightness, t, p],
        1 => [q, brightness, p],
        2 => [p, brightness, t],
        3 => [p, q, brightness],
        4 => [t, p, brightness],
        _ => [brightness, p, q],
    };
    let [red, green, blue] = parts.map(|part| (part * 255.0 + 0.5) as i32);
    Color(red << 16 | green << 8 | blue)
}

fn colors(call: &Call<'_>, index: usize) -> Result<Vec<Option<Color>>> {
    Sketch::unwrap(&call.full(index)?)?.iter().map(|bytes| bytes.map(read).transpose()).collect()
}

fn made(colors: Vec<Option<Color>>) -> Result<ArrayRef> {
    let bytes: Vec<Option<[u8; 4]>> =
        colors.into_iter().map(|color| color.map(|color| color.0.to_le_bytes())).collect();
    Sketch::Color.wrap(bytes.iter().map(|bytes| bytes.as_ref().map(<[u8; 4]>::as_slice)).collect::<BinaryArray>())
}

fn rgb() -> Definition {
    string("rgb", "a colour of red, green and blue, each from 0 to 255")
        .on(
            "rgb(bigint, bigint, bigint) -> color",
            whole(|call| {
                let parts = [call.column::<I64>(0)?, call.column::<I64>(1)?, call.column::<I64>(2)?];
                let one = |row: usize| -> Result<Option<Color>> {
                    let [Some(red), Some(green), Some(blue)] = [0, 1, 2].map(|at| parts[at].value(row)) else {
                        return Ok(None);
                    };
                    if [red, green, blue].iter().any(|part| !(0..=255).contains(part)) {
                        return Err(invalid("red, green and blue must be between 0 and 255"));
                    }
                    Ok(Some(Color((red << 16 | green << 8 | blue) as i32)))
                };
                made((0..call.rows).map(one).collect::<Result<_>>()?)
            }),
        )
        .example("SELECT render('x', rgb(255, 0, 0)) IS NOT NULL", "true")
}

fn scaled(call: &Call<'_>, colors_from: usize, share: impl Fn(usize) -> Option<f64>) -> Result<ArrayRef> {
    let (low, high) = (colors(call, colors_from)?, colors(call, colors_from + 1)?);
    let one = |row: usize| match (share(row), low[row], high[row]) {
        (Some(share), Some(low), Some(high)) => Color::between(share as f32, low, high).map(Some),
        _ => Ok(None),
    };
    made((0..call.rows).map(one).collect::<Result<_>>()?)
}

fn color() -> Definition {
    string("color", "the colour of a name or of #rgb, or one between two others")
        .on(
            "color(varchar) -> color",
            whole(|call| {
                let names = call.column::<Str>(0)?;
                made((0..call.rows).map(|row| names.value(row).map(Color::parse).transpose()).collect::<Result<_>>()?)
            }),
        )
        .on(
            "color(double, color, color) -> color",
            whole(|call| {
                let shares = call.column::<F64>(0)?;
                scaled(call, 1, |row| shares.value(row))
            }),
        )
        .on(
            "color(double, double, double, color, color) -> color",
            whole(|call| {
                let (x, low, high) = (call.column::<F64>(0)?, call.column::<F64>(1)?, call.column::<F64>(2)?);
                scaled(call, 3, |row| {
                    let (x, low, high) = (x.value(row)?, low.value(row)?, high.value(row)?);
                    Some((x - low) / (high - low))
                })
            }),
        )
        .example("SELECT render('x', color('red')) IS NOT NULL", "true")
}

fn painted<R: Read>(write: impl for<'a> Fn(R::Item<'a>) -> String + Send + Sync + 'static) -> Kernel {
    whole(move |call| {
        let (values, colors) = (call.column::<R>(0)?, colors(call, 1)?);
        let one = |row: usize| Some(format!("{}{}{RESET}", colors[row]?.escape(), write(values.value(row)?)));
        Ok(Arc::new((0..call.rows).map(one).collect::<StringArray>()))
    })
}

fn render() -> Definition {
    string("render", "a value in a colour, with the terminal's escapes")
        .on(
            "render(boolean) -> varchar",
            whole(|call| {
                let values = call.column::<Bool>(0)?;
                let one = |row: usize| {
                    let (sign, color) = if values.value(row)? { ("✓", 2) } else { ("✗", 1) };
                    Some(format!("{}{sign}{RESET}", Color::system(color).escape()))
                };
                Ok(Arc::new((0..call.rows).map(one).collect::<StringArray>()))
            }),
        )
        .on("render(varchar, color) -> varchar", painted::<Str>(str::to_owned))
        .on("render(bigint, color) -> varchar", painted::<I64>(|value| value.to_string()))
        .on("render(double, color) -> varchar", painted::<F64>(java_double))
        .example("SELECT length(render('x', color('red')))", "14")
}

fn bars(call: &Call<'_>, ends: impl Fn(usize) -> Option<(Color, Color)>) -> Result<ArrayRef> {
    let (shares, widths) = (call.column::<F64>(0)?, call.column::<I64>(1)?);
    let mut out = StringBuilder::new();
    for row in 0..call.rows {
        let (Some(share), Some(width), Some((low, high))) = (shares.value(row), widths.value(row), ends(row)) else {
            out.append_null();
            continue;
        };
        let width = width.clamp(0, WIDTH_MAX);
        let filled = ((share * width as f64) as i64).clamp(0, width);
        for at in 0..filled {
            let color = Color::between((at as f64 / (width - 1) as f64) as f32, low, high)?;
            // Writing to a builder cannot fail.
            let _ = write!(out, "{}█", color.escape());
        }
        let _ = write!(out, "{RESET}{}", " ".repeat((width - filled) as usize));
        out.append_value("");
    }
    Ok(Arc::new(out.finish()))
}

/// The widest bar drawn.
const WIDTH_MAX: i64 = 100_000;

fn bar() -> Definition {
    string("bar", "a bar of a share of a width, in colours from red to green unless others are given")
        .on("bar(double, bigint) -> varchar", whole(|call| bars(call, |_| Some((Color(0xFF_0000), Color(0xFF00))))))
        .on(
            "bar(double, bigint, color, color) -> varchar",
            whole(|call| {
                let (low, high) = (colors(call, 2)?, colors(call, 3)?);
                bars(call, |row| low[row].zip(high[row]))
            }),
        )
        .example("SELECT bar(0, 3) IS NOT NULL", "true")
}

fn data_size(name: &'static str) -> Definition {
    let signature = match name {
        "parse_data_size" => "parse_data_size(varchar) -> decimal(38,0)",
        _ => "parse_presto_data_size(varchar) -> decimal(38,0)",
    };
    let example = match name {
        "parse_data_size" => "SELECT parse_data_size('2.3MB')",
        _ => "SELECT parse_presto_data_size('2.3MB')",
    };
    string(name, "the bytes of a size such as 2.3MB")
        .on(
            signature,
            whole(|call| {
                let texts = call.column::<Str>(0)?;
                let sizes = (0..call.rows).map(|row| texts.value(row).map(size).transpose());
                let sizes = sizes.collect::<Result<Decimal128Array>>()?;
                Ok(Arc::new(sizes.with_precision_and_scale(38, 0)?))
            }),
        )
        .example(example, "2411724")
}

fn size(text: &str) -> Result<i128> {
    let wrong = || invalid(format!("invalid data size: '{text}'"));
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(end);
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    let power = units.iter().position(|known| *known == unit).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let scale = 10i128.checked_pow(fraction.len() as u32).ok_or_else(wrong)?;
    digits.checked_mul(1i128 << (10 * power)).map(|bytes| bytes / scale).ok_or_else(wrong)
}

fn groups() -> Definition {
    scalar(Family::Conditional, "current_groups", "the groups of the user, of which there are none here")
        .on(
            "current_groups() -> array(varchar)",
            whole(|call| {
                let DataType::List(item) = call.result else { return Err(Error::internal("expected an array type")) };
                let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(0, call.rows));
                Ok(Arc::new(ListArray::try_new(item.clone(), offsets, new_empty_array(item.data_type()), None)?))
            }),
        )
        .example("SELECT cardinality(current_groups())", "0")
}
