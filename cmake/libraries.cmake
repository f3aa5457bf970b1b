# Libraries of the system. scripts/install_packages.sh installs all of them.
find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
if(COLOSSUS_TESTS)
  find_package(GTest REQUIRED)
endif()

function(colossus_system_library name header)
  find_library(${name}_LIBRARY NAMES ${name} REQUIRED)
  find_path(${name}_INCLUDE_DIR NAMES ${header} REQUIRED)
  add_library(${name} INTERFACE)
  target_link_libraries(${name} INTERFACE ${${name}_LIBRARY})
  target_include_directories(${name} SYSTEM INTERFACE ${${name}_INCLUDE_DIR})
endfunction()
colossus_system_library(zstd zstd.h)
colossus_system_library(xxhash xxhash.h)
colossus_system_library(lzma lzma.h)
if(COLOSSUS_TESTS)
  colossus_system_library(pcre2-8 pcre2.h)  # the oracle of the text splitters; the program does not use it
endif()

# Header-only libraries lie on the compiler's own path; without one of them the first error would be a page of template.
foreach(header toml++/toml.h CLI/CLI.hpp)
  find_path(COLOSSUS_HEADER_${header} NAMES ${header})
  mark_as_advanced(COLOSSUS_HEADER_${header})
  if(NOT COLOSSUS_HEADER_${header})
    message(FATAL_ERROR "${header} is missing; run scripts/install_packages.sh")
  endif()
endforeach()

# What `colossus --version` says is the version of the project, written once.
set_source_files_properties(src/cli/main.cc PROPERTIES COMPILE_DEFINITIONS COLOSSUS_VERSION="${PROJECT_VERSION}")
