using Backend.Toolkit.CircuitBreakers.Benchmarks;

if (args is ["--bytes-per-key", ..])
{
    BytesPerKey.Print();
    return 0;
}

return Comparison.Run(args);
