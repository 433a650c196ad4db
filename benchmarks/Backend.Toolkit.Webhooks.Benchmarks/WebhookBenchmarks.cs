using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using Backend.Toolkit.Webhooks.Ed25519;
using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Http;
using Octokit.Webhooks.AspNetCore;
using Stripe;

namespace Backend.Toolkit.Webhooks.Benchmarks;

/// <summary>
/// Beside one HMAC-SHA256 of the bytes that are signed, by the static method, which keys a new state each time. Everything is warm; the headers are in a dictionary. Stripe.net gets the body as a string, since it takes no bytes; Octokit.Webhooks
/// verifies in a private method of its endpoint, called by a delegate with the body in memory.
/// </summary>
public class WebhookBenchmarks
{
    private const string Id = "msg_p5jXN8AQM9LWM0D4loKWxJek";

    private static readonly string Secret = WebhookKey.NewSecret();
    private static readonly byte[] Key = Convert.FromBase64String(Secret["whsec_".Length..]);
    private static readonly byte[] Tag = new byte[32];
    private static readonly Func<Dictionary<string, string>, string, string?> Read = static (headers, name) => headers.GetValueOrDefault(name);
    private static readonly WebhookHeaderWriter<WebhookBenchmarks> Write = static (self, _, value) => self._written += value.Length;

    private readonly (WebhookVerifier Verifier, WebhookSigner Signer, Dictionary<string, string> Headers)[] _pairs = new (WebhookVerifier, WebhookSigner, Dictionary<string, string>)[4];
    private readonly DefaultHttpContext _context = new();
    private Func<HttpContext, string?, ReadOnlyMemory<byte>, Task<bool>> _octokit = null!;
    private byte[] _body = [];
    private byte[] _signed = [];
    private string _text = "";
    private int _written;

    [Params(256, 2048, 20_480, 1_048_576)]
    public int Bytes { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _body = RandomNumberGenerator.GetBytes(Bytes);
        for (int i = 0; i < Bytes; i++)
        {
            _body[i] = (byte)(' ' + (_body[i] % 90));
        }

        _text = Encoding.UTF8.GetString(_body);
        _signed = [.. Encoding.UTF8.GetBytes($"{Id}.1614265330."), .. _body];
        (string privateKey, string publicKey) = Ed25519WebhookKey.NewPair();
        Make(0, WebhookScheme.StandardWebhooks, Secret, Secret);
        Make(1, WebhookScheme.Stripe, Secret, Secret);
        Make(2, WebhookScheme.GitHub, Secret, Secret);
        Make(3, WebhookScheme.StandardWebhooks, privateKey, publicKey);
        _context.Request.Headers["X-Hub-Signature-256"] = _pairs[2].Headers["X-Hub-Signature-256"];
        _octokit = typeof(GitHubWebhookExtensions).GetMethod("VerifySignatureAsync", BindingFlags.Static | BindingFlags.NonPublic)!.CreateDelegate<Func<HttpContext, string?, ReadOnlyMemory<byte>, Task<bool>>>();
        if (!Verify() || !VerifyGitHub() || !VerifyStripe() || !VerifyEd25519() || !OctokitVerifies())
        {
            throw new InvalidOperationException("Not all verify the same.");
        }

        StripeVerifies();
    }

    [BenchmarkCategory("verify"), Benchmark(Baseline = true, Description = "HMACSHA256.HashData")]
    public int HmacOfVerify() => HMACSHA256.HashData(Key, _signed, Tag);

    [BenchmarkCategory("verify"), Benchmark(Description = "Verify, Standard Webhooks")]
    public bool Verify() => Verify(0);

    [BenchmarkCategory("verify"), Benchmark(Description = "Verify in pieces, Standard Webhooks")]
    public bool VerifyInPieces()
    {
        using WebhookSession session = _pairs[0].Verifier.Begin(_pairs[0].Headers, Read);
        for (int at = 0; at < _body.Length; at += 4096)
        {
            session.Append(_body.AsSpan(at, Math.Min(4096, _body.Length - at)));
        }

        return session.Finish() == WebhookVerification.Valid;
    }

    [BenchmarkCategory("verify"), Benchmark(Description = "Verify and replay key, Standard Webhooks")]
    public int VerifyWithKey()
    {
        _pairs[0].Verifier.Verify(_pairs[0].Headers, Read, _body, out WebhookMessage message);
        return message.ReplayKey.GetHashCode();
    }

    [BenchmarkCategory("verify"), Benchmark(Description = "Verify, Stripe")]
    public bool VerifyStripe() => Verify(1);

    [BenchmarkCategory("verify"), Benchmark(Description = "Stripe.net, ValidateSignature")]
    public void StripeVerifies() => EventUtility.ValidateSignature(_text, _pairs[1].Headers["Stripe-Signature"], Secret, 1_000_000);

    [BenchmarkCategory("verify"), Benchmark(Description = "Verify, GitHub")]
    public bool VerifyGitHub() => Verify(2);

    [BenchmarkCategory("verify"), Benchmark(Description = "Octokit.Webhooks")]
    public bool OctokitVerifies() => _octokit(_context, Secret, _body).GetAwaiter().GetResult();

    [BenchmarkCategory("verify"), Benchmark(Description = "Verify, Ed25519")]
    public bool VerifyEd25519() => Verify(3);

    [BenchmarkCategory("sign"), Benchmark(Baseline = true, Description = "HMACSHA256.HashData")]
    public int HmacOfSign() => HMACSHA256.HashData(Key, _signed, Tag);

    [BenchmarkCategory("sign"), Benchmark(Description = "Sign, Standard Webhooks")]
    public void Sign() => Sign(0);

    [BenchmarkCategory("sign"), Benchmark(Description = "Sign, Stripe")]
    public void SignStripe() => Sign(1);

    [BenchmarkCategory("sign"), Benchmark(Description = "Sign, Ed25519")]
    public void SignEd25519() => Sign(3);

    private bool Verify(int pair) => _pairs[pair].Verifier.Verify(_pairs[pair].Headers, Read, _body) == WebhookVerification.Valid;

    private void Sign(int pair) => _pairs[pair].Signer.Sign(this, Write, Id, _body);

    private void Make(int pair, WebhookScheme scheme, string signs, string verifies)
    {
        // The time is the system's, and a run takes longer than the default tolerance.
        var verifying = new WebhookVerifierOptions { Scheme = scheme, Tolerance = TimeSpan.FromDays(1) };
        var signing = new WebhookSignerOptions { Scheme = scheme };
        verifying.UseEd25519();
        signing.UseEd25519();
        verifying.Keys.Add(new WebhookKey(verifies));
        signing.Keys.Add(new WebhookKey(signs));
        var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        _pairs[pair] = (new WebhookVerifier(verifying), new WebhookSigner(signing), headers);
        _pairs[pair].Signer.Sign(headers, static (to, name, value) => to[name] = value.ToString(), Id, _body);
    }
}
