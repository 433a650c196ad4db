using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Shop.Tests;

/// <param name="Trace">The id of its trace.</param>
/// <param name="Id">Its own id.</param>
/// <param name="Parent">Of the span around it; empty: none.</param>
/// <param name="Source">The name of its source.</param>
/// <param name="Name">What it is called.</param>
/// <param name="Tags">As text.</param>
internal sealed record CollectedSpan(string Trace, string Id, string Parent, string Source, string Name, IReadOnlyDictionary<string, string> Tags)
{
    public string? this[string tag] => Tags.GetValueOrDefault(tag);
}

/// <summary>A collector on a free loopback port: takes OTLP as protobuf over HTTP, and keeps of it what the tests look at.</summary>
internal sealed class Collector : IAsyncDisposable
{
    private readonly WebApplication _app;

    private Collector(WebApplication app) => _app = app;

    public string Address => _app.Urls.First();

    public ConcurrentQueue<CollectedSpan> Spans { get; } = new();

    /// <summary>Meters, each with its instruments.</summary>
    public ConcurrentDictionary<string, ConcurrentDictionary<string, bool>> Meters { get; } = new();

    public static async Task<Collector> StartAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0");
        builder.Services.AddRoutingCore();
        WebApplication app = builder.Build();
        var collector = new Collector(app);
        app.MapPost("/v1/traces", async (HttpContext context) => collector.TakeSpans(await ReadAsync(context)));
        app.MapPost("/v1/metrics", async (HttpContext context) => collector.TakeMetrics(await ReadAsync(context)));
        await app.StartAsync();
        return collector;
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private static async Task<byte[]> ReadAsync(HttpContext context)
    {
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body);
        return body.ToArray();
    }

    /// <summary>The numbers are those of opentelemetry/proto: resource spans, of these scope spans, of these the scope and the spans.</summary>
    private void TakeSpans(byte[] request)
    {
        foreach (ReadOnlyMemory<byte> scope in Fields(request, 1).SelectMany(resource => Fields(resource, 2)))
        {
            string source = Text(Fields(Fields(scope, 1).Single(), 1).Single());
            foreach (ReadOnlyMemory<byte> span in Fields(scope, 2))
            {
                Dictionary<string, string> tags = Fields(span, 9).ToDictionary(tag => Text(Fields(tag, 1).Single()), tag => Value(Fields(tag, 2).Single()));
                Spans.Enqueue(new CollectedSpan(Id(span, 1), Id(span, 2), Id(span, 4), source, Text(Fields(span, 5).Single()), tags));
            }
        }
    }

    private void TakeMetrics(byte[] request)
    {
        foreach (ReadOnlyMemory<byte> scope in Fields(request, 1).SelectMany(resource => Fields(resource, 2)))
        {
            ConcurrentDictionary<string, bool> instruments = Meters.GetOrAdd(Text(Fields(Fields(scope, 1).Single(), 1).Single()), static _ => new());
            foreach (ReadOnlyMemory<byte> metric in Fields(scope, 2))
            {
                instruments[Text(Fields(metric, 1).Single())] = true;
            }
        }
    }

    private static string Id(ReadOnlyMemory<byte> span, int number) => Fields(span, number).Select(id => Convert.ToHexStringLower(id.Span)).SingleOrDefault("");

    private static string Text(ReadOnlyMemory<byte> bytes) => Encoding.UTF8.GetString(bytes.Span);

    /// <summary>A string, a truth, a whole number or another one.</summary>
    private static string Value(ReadOnlyMemory<byte> value) => Read(value).Single() switch
    {
        (1, var text) => Text(text),
        (4, var number) => BitConverter.ToDouble(number.Span).ToString(CultureInfo.InvariantCulture),
        (_, var number) => BitConverter.ToInt64(number.Span).ToString(CultureInfo.InvariantCulture),
    };

    private static IEnumerable<ReadOnlyMemory<byte>> Fields(ReadOnlyMemory<byte> message, int number) => Read(message).Where(field => field.Number == number).Select(field => field.Value);

    /// <summary>The fields of a protobuf message: bytes as they are, numbers as 8 or 4 bytes.</summary>
    private static List<(int Number, ReadOnlyMemory<byte> Value)> Read(ReadOnlyMemory<byte> message)
    {
        List<(int, ReadOnlyMemory<byte>)> fields = [];
        while (!message.IsEmpty)
        {
            long tag = Number(ref message);
            ReadOnlyMemory<byte> value = (tag & 7) switch
            {
                0 => BitConverter.GetBytes(Number(ref message)),
                1 => Take(ref message, 8),
                2 => Take(ref message, (int)Number(ref message)),
                5 => Take(ref message, 4),
                _ => throw new InvalidDataException($"There is no wire type {tag & 7}."),
            };
            fields.Add(((int)(tag >> 3), value));
        }

        return fields;
    }

    private static ReadOnlyMemory<byte> Take(ref ReadOnlyMemory<byte> message, int length)
    {
        ReadOnlyMemory<byte> taken = message[..length];
        message = message[length..];
        return taken;
    }

    private static long Number(ref ReadOnlyMemory<byte> message)
    {
        ulong number = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte part = Take(ref message, 1).Span[0];
            number |= (ulong)(part & 0x7F) << shift;
            if (part < 0x80)
            {
                return (long)number;
            }
        }
    }
}
