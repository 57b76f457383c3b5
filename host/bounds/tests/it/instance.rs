//! A module of a transform, called by the canonical ABI.

use wasmtime::{Config, Engine, Instance, Memory, Module, Store, TypedFunc};

/// One column, as bytes: its kind, and whether there is a value where that is said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) values: Values,
    pub(crate) valid: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Ints(Vec<i64>),
    /// By their bits.
    Floats(Vec<u64>),
    Bytes(Vec<u32>, Vec<u8>),
}

/// Where a module is called, and by which names.
pub(crate) struct Running {
    pub(crate) store: Store<()>,
    memory: Memory,
    realloc: TypedFunc<(i32, i32, i32, i32), i32>,
    run: TypedFunc<(i32, i32, i32), i32>,
    post: TypedFunc<i32, ()>,
    limit: Option<TypedFunc<(i64, i32, i64), ()>>,
}

pub(crate) const FUEL: u64 = 100_000_000;
pub(crate) const MEMORY: u32 = 64 << 20;
pub(crate) const OUTPUT: u64 = 128 << 10;

/// As hosts of bounded modules run them: whatever NaN the processor makes.
pub(crate) fn engine() -> Engine {
    Engine::default()
}

/// As transforms are run by themselves, with fuel or without.
pub(crate) fn engine_for_plain(fuel: bool) -> Engine {
    let mut config = Config::new();
    config.cranelift_nan_canonicalization(true).consume_fuel(fuel);
    Engine::new(&config).expect("it is set up")
}

impl Running {
    pub(crate) fn new(engine: &Engine, module: &[u8]) -> Self {
        let module = Module::new(engine, module).expect("it is a module");
        let mut store = Store::new(engine, ());
        let _ = store.set_fuel(u64::MAX);
        let instance = Instance::new(&mut store, &module, &[]).expect("it begins");
        let bounded = instance.get_func(&mut store, &format!("{}#limit", mezze_bounds::BOUNDED)).is_some();
        let interface = if bounded { mezze_bounds::BOUNDED } else { "mezze:features/computation@0.1.0" };
        let memory = instance.get_memory(&mut store, "memory").expect("it has memory");
        let realloc = instance.get_typed_func(&mut store, "cabi_realloc").expect("it has it");
        let run = instance.get_typed_func(&mut store, &format!("{interface}#run")).expect("it has it");
        let post = instance.get_typed_func(&mut store, &format!("cabi_post_{interface}#run")).expect("it has it");
        let limit = bounded.then(|| instance.get_typed_func(&mut store, &format!("{interface}#limit")).expect("it has it"));
        Self { store, memory, realloc, run, post, limit }
    }

    pub(crate) fn pages(&self) -> u64 {
        self.memory.size(&self.store)
    }

    fn put(&mut self, bytes: &[u8], align: i32) -> (u32, u32) {
        let at = self.realloc.call(&mut self.store, (0, 0, align, bytes.len() as i32)).expect("there is room");
        self.memory.write(&mut self.store, at as u32 as usize, bytes).expect("it is in memory");
        (at as u32, bytes.len() as u32)
    }

    /// The result, or what was said.
    pub(crate) fn call(&mut self, rows: u32, inputs: &[Column]) -> Result<Vec<Column>, String> {
        self.call_within(rows, inputs, (FUEL, MEMORY, OUTPUT))
    }

    pub(crate) fn call_within(&mut self, rows: u32, inputs: &[Column], limits: (u64, u32, u64)) -> Result<Vec<Column>, String> {
        if let Some(limit) = &self.limit {
            limit.call(&mut self.store, (limits.0 as i64, limits.1 as i32, limits.2 as i64)).expect("it is bounded");
        }
        let mut records = Vec::new();
        for column in inputs {
            let mut words = [0_u32; 8];
            match &column.values {
                Values::Ints(values) => {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    (words[1], words[2]) = (self.put(&bytes, 8).0, values.len() as u32);
                }
                Values::Floats(values) => {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    (words[0], words[1], words[2]) = (1, self.put(&bytes, 8).0, values.len() as u32);
                }
                Values::Bytes(offsets, data) => {
                    let bytes: Vec<u8> = offsets.iter().flat_map(|value| value.to_le_bytes()).collect();
                    (words[0], words[1], words[2]) = (2, self.put(&bytes, 4).0, offsets.len() as u32);
                    (words[3], words[4]) = self.put(data, 1);
                }
            }
            if let Some(valid) = &column.valid {
                words[5] = 1;
                (words[6], words[7]) = self.put(valid, 1);
            }
            records.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        let at = self.put(&records, 4).0;
        let result =
            self.run.call(&mut self.store, (rows as i32, at as i32, inputs.len() as i32)).map_err(|trap| format!("{trap:#}"))?;
        let read = self.read(result as u32);
        self.post.call(&mut self.store, result).expect("it is reset");
        read
    }

    fn bytes(&self, at: u32, count: u32) -> Vec<u8> {
        self.memory.data(&self.store)[at as usize..][..count as usize].to_vec()
    }

    fn word(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().expect("four bytes"))
    }

    fn read(&self, at: u32) -> Result<Vec<Column>, String> {
        let (list, count) = (self.word(at + 4), self.word(at + 8));
        if self.bytes(at, 1) != [0] {
            return Err(String::from_utf8_lossy(&self.bytes(list, count)).into_owned());
        }
        let eight = |at: u32, count: u32| -> Vec<[u8; 8]> {
            self.bytes(at, count * 8).chunks(8).map(|bytes| bytes.try_into().expect("eight")).collect()
        };
        let column = |at: u32| {
            let (values, count) = (self.word(at + 4), self.word(at + 8));
            let values = match self.bytes(at, 1)[..] {
                [0] => Values::Ints(eight(values, count).into_iter().map(i64::from_le_bytes).collect()),
                [1] => Values::Floats(eight(values, count).into_iter().map(u64::from_le_bytes).collect()),
                _ => {
                    let offsets = (0..count).map(|number| self.word(values + 4 * number)).collect();
                    Values::Bytes(offsets, self.bytes(self.word(at + 12), self.word(at + 16)))
                }
            };
            let valid = (self.bytes(at + 20, 1) == [1]).then(|| self.bytes(self.word(at + 24), self.word(at + 28)));
            Column { values, valid }
        };
        Ok((0..count).map(|number| column(list + 32 * number)).collect())
    }
}
