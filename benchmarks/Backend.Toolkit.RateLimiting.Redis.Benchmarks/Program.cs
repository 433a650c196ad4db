return args.Contains("--calls") ? await CallsPerRequest.RunAsync() : Comparison.Run(args);
