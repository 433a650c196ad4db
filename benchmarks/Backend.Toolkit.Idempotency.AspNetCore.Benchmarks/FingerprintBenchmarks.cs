using System.Security.Cryptography;
using Backend.Toolkit.Idempotency.AspNetCore;
using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Http;

/// <summary>The fingerprint of a request whose body is in memory already, beside SHA-256 over the same bytes in one call.</summary>
public class FingerprintBenchmarks
{
    private readonly DefaultHttpContext _context = new();
    private byte[] _body = [];
    private MemoryStream _stream = new();

    [Params(1_024, 65_536, 1_048_576)]
    public int Bytes { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _body = RandomNumberGenerator.GetBytes(Bytes);
        _stream = new MemoryStream(_body);
        _context.Request.Method = "POST";
        _context.Request.Path = "/orders";
        _context.Request.ContentType = "application/json";
        _context.Request.Body = _stream;
        _context.Request.ContentLength = Bytes;
    }

    [Benchmark(Baseline = true, Description = "SHA256.HashData")]
    public byte[] Floor() => SHA256.HashData(_body);

    [Benchmark(Description = "fingerprint")]
    public byte[]? Fingerprint() => RequestFingerprint.ComputeAsync(_context.Request, int.MaxValue, 65_536, CancellationToken.None).Result;
}
