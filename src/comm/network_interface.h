// Through which network a machine reaches others.
#pragma once

#include <string>

#include "base/status.h"

namespace colossus {

// The interface that leads to `endpoint` ("host:port"); nothing is sent. "": to the world, and where no way leads
// there, the only one that is up and is not the machine's own. kInvalid: none, or several of which one must be named.
Result<std::string> interface_towards(const std::string& endpoint);

}  // namespace colossus
