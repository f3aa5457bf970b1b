// Places that long work passes now and then. Whoever watches a process sees by them that it gets on; tests break it
// there.
#pragma once

#include <cstdint>

namespace colossus {

// Counts; and with COLOSSUS_FAULT="kill:update:3" in the environment kills the process (SIGKILL) when it passes
// "update" for the third time. "stop:..." stops it (SIGSTOP): there, but it does nothing any more; "spin:..." keeps this
// thread busy for ever. Any thread.
void milestone(const char* name);

// How many this process has passed.
int64_t milestones_passed();

}  // namespace colossus
