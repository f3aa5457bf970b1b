// colossus plan --validate: published runs, played and compared.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"

namespace colossus {

// `table`: "" for that of the program. `csv`: where the runs go as CSV ("": the standard output) instead of as text.
Status validate_plan(const std::string& table, const std::optional<std::string>& csv);

}  // namespace colossus
