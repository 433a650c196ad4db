return Comparison.Run(args);
