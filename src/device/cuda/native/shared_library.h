// Libraries that are too large to carry and are found where the program runs.
#pragma once

#include <initializer_list>
#include <string>

#include "base/status.h"

namespace colossus::gpu {

// The first of these names that the dynamic loader finds; `what` they are, for the message when it finds none. Stays
// loaded.
Result<void*> load_library(const std::string& what, std::initializer_list<const char*> names);
Result<void*> find_symbol(void* library, const char* name);

// Sets `function` to the symbol of that name.
template <class Function>
Status find_function(void* library, const char* name, Function*& function) {
  ASSIGN_OR_RETURN(void* symbol, find_symbol(library, name));
  function = reinterpret_cast<Function*>(symbol);
  return ok_status();
}

}  // namespace colossus::gpu
