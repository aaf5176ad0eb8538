# ROS 2 and DDS programs started from this shell use the overlay network: see 'hnet dds env --help'.
if [ -x @HNET@ ]; then eval "$(@HNET@ dds env 2>/dev/null)"; fi
