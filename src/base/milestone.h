// Places that long work passes now and then. Whoever watches a process sees by them that it gets on; tests break it
// there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace colossus {

// Counts; and with COLOSSUS_FAULT="kill:update:3" in the environment kills the process (SIGKILL) when it passes
// "update" for the third time. "stop:..." stops it (SIGSTOP): there, but it does nothing any more; "spin:..." keeps
// this thread busy for ever; "slow:..." makes it wait for 50 ms there, this time and ever after. Several faults are
// separated by commas. Any thread.
void milestone(const char* name);

// A milestone behind which a result lies. True when it is to be spoiled, by a bit that is flipped: by "flip:..." this
// once, by "flips:..." this time and ever after.
bool milestone_flips(const char* name);

// How many this process has passed.
int64_t milestones_passed();

// The faults of one process of a run of many, for its COLOSSUS_FAULT: "2:kill:update:7,2.3:stop:load:1" is a fault of
// the first process of rank 2, and one of its third, which is its second replacement.
std::string faults_of_process(std::string_view faults, int64_t rank, int64_t process);

}  // namespace colossus
