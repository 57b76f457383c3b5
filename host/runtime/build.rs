//! Builds the serving component from `guest/serving`, and encodes it as a component.

#[path = "../build_guest.rs"]
mod build_guest;

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use wit_component::ComponentEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    build_guest::watch(&["guest/serving", "wit"]);
    let module = build_guest::build_guest("mezze-serving", "wasm32-unknown-unknown", "guest", "mezze_serving.wasm", &[])?;
    let component = ComponentEncoder::default().validate(true).module(&fs::read(module)?)?.encode()?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("serving.wasm"), component)?;
    Ok(())
}
