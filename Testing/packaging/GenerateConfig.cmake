# The real one writes here what other extensions need in order to build upon this one.
file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}Config.cmake" "# No other extension asks.\n")
