// The Fabric for hardware that can read remote memory but not write it (p4d's EFA): Write sends the
// target a small order, the target checks key and place, reads the bytes into its own memory, reports
// the arrival and answers; then the write is done.
//
// Also over tcp, where it is tested; chosen by Options::write_mode. Both sides must use it: its family
// differs from that of the writing fabric.
//
// - Orders carry up to 32 writes. A writer has only as many orders unanswered as its target granted
//   it receive buffers.
// - Revoke stops new reads at once. Where software writes what is read nothing of those under way
//   reaches the memory any more (read_deliveries.h). Where a card does, it waits for them: they take
//   microseconds from a live writer. After 100 ms the way to the writer is cut, and if even that ends
//   nothing the memory is taken from the card. Renew does the same, and opens the next key.
// - A removed peer that reads on reads memory that may be others' by now. So each order names a lease,
//   a word that Remove clears; the target reads it behind the bytes and reports nothing when it has
//   changed.
// - One key opens a source region to all peers for reading: whoever can send us orders could already
//   be granted pages, and EFA has one key per registration anyhow.
#pragma once

#include <memory>

#include "transfer/fabric.h"
#include "transfer/libfabric/endpoint.h"

namespace baton::transfer {

Result<std::unique_ptr<Fabric>> OpenReadFabric(Endpoint endpoint);

}  // namespace baton::transfer
