// Copies blocks that nobody will read soon: past the caches where the processor can.
//
// An ordinary copy first reads every line that it is about to overwrite, which costs a third of the
// memory's bandwidth. Streaming stores do not; they are not ordered with other stores, so call
// FinishStreaming before telling anyone that the bytes are there.
#pragma once

#include <cstddef>

namespace baton::transfer::shm {

void StreamCopy(void* to, const void* from, size_t bytes);
void FinishStreaming();

// Asks for the first lines of a block that is copied next: the processor's own prefetching stops at
// the end of a page.
void PrefetchBlock(const void* from, size_t bytes);

}  // namespace baton::transfer::shm
