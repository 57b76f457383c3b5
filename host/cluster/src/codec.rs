//! Plans as bytes: our operator's, and for all others Ballista's.

use std::sync::Arc;

use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use crate::operator::TaskExec;

/// What our operator's bytes begin with. As a message of Ballista's it would be none.
const MARK: &[u8] = b"mezze task\n";

/// Encodes and decodes plans.
#[derive(Debug, Default)]
pub(crate) struct Codec {
    others: BallistaPhysicalExtensionCodec,
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match bytes.strip_prefix(MARK) {
            Some(bytes) => {
                let task = TaskExec::decode(bytes.to_vec()).map_err(|error| DataFusionError::External(Box::new(error)))?;
                Ok(Arc::new(task))
            }
            None => self.others.try_decode(bytes, inputs, context, converter),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        match node.downcast_ref::<TaskExec>() {
            Some(task) => {
                bytes.extend_from_slice(MARK);
                bytes.extend_from_slice(task.bytes());
                Ok(())
            }
            None => self.others.try_encode(node, bytes, converter),
        }
    }
}

/// Both codecs of a scheduler or an executor.
pub(crate) fn codecs() -> (Arc<dyn LogicalExtensionCodec>, Arc<dyn PhysicalExtensionCodec>) {
    (Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(Codec::default()))
}
