"""What commands do, with Keras and keras_iplt: imported when there is work."""
