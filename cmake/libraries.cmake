# Libraries of the system. scripts/install_packages.sh installs all of them.
find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
if(COLOSSUS_TESTS)
  find_package(GTest REQUIRED)
endif()

# `package` is what Debian calls it.
function(colossus_system_library name header package)
  find_library(${name}_LIBRARY NAMES ${name})
  find_path(${name}_INCLUDE_DIR NAMES ${header})
  if(NOT ${name}_LIBRARY OR NOT ${name}_INCLUDE_DIR)
    message(FATAL_ERROR "${name} (${header}) is missing: Debian has it in ${package}; run scripts/install_packages.sh")
  endif()
  add_library(${name} INTERFACE)
  target_link_libraries(${name} INTERFACE ${${name}_LIBRARY})
  target_include_directories(${name} SYSTEM INTERFACE ${${name}_INCLUDE_DIR})
endfunction()
colossus_system_library(zstd zstd.h libzstd-dev)
colossus_system_library(xxhash xxhash.h libxxhash-dev)
colossus_system_library(lzma lzma.h liblzma-dev)
colossus_system_library(curl curl/curl.h libcurl4-openssl-dev)
colossus_system_library(crypto openssl/evp.h libssl-dev)
if(COLOSSUS_TESTS)
  colossus_system_library(pcre2-8 pcre2.h libpcre2-dev)  # the oracle of the text splitters; the program does not use it
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
