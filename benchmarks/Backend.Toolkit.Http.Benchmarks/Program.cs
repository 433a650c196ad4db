return args.Contains("--bytes-per-authority") ? BytesPerAuthority.Run() : args.Contains("--retry-after") ? await RetryAfter.RunAsync() : Comparison.Run(args);
