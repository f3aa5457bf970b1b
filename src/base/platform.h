// The one header that asks what machine this is. Everything else asks it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace colossus {

// Instruction sets this processor and operating system offer. Levels are cumulative.
enum class IsaLevel { kNone, kAvx2, kAvx512, kAvx512Bf16 };

// Asked once from the processor; COLOSSUS_ISA=avx2|avx512|avx512bf16 in the environment can only lower it.
IsaLevel isa_level();
const char* isa_level_name(IsaLevel level);

// Processors this process may run on (its affinity mask), at least 1.
int num_usable_cores();
std::vector<int> usable_cores();  // their numbers, ascending; none when the system does not say
void pin_this_thread(int core);
std::string cpu_model_name();

// Denormals as zero for the calling thread: optimizer state decays into them and they run 10 to 100 times slower.
void flush_denormals();

// Peak resident memory of this process so far, and the memory the machine has.
int64_t peak_resident_bytes();
int64_t total_memory_bytes();

// Names this start of this machine: processes that read the same see the same monotonic_seconds(). Empty if the system
// does not say.
std::string boot_id();

// Since this process was started, to 0.01 s; 0 if the system does not say.
double process_age_seconds();

}  // namespace colossus
