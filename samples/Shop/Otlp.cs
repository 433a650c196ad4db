using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace Shop;

/// <summary>Metrics and traces of all packages, of the servers and of the clients, to a collector. Without <c>--otlp</c> nothing of it is there.</summary>
internal static class Otlp
{
    /// <summary>All of the packages: each has its meter, and where it has spans its source, under its own name.</summary>
    private const string Packages = "Backend.Toolkit.*";

    /// <summary><c>--otlp</c> may stand alone: the address is then that of OpenTelemetry's environment variables, else its default.</summary>
    public static string[] Arguments(string[] args) =>
        [.. args.Select((arg, i) => arg == "--otlp" && (i + 1 == args.Length || args[i + 1].StartsWith("--", StringComparison.Ordinal)) ? "--otlp=" : arg)];

    public static void Add(IServiceCollection services, ConfigurationManager configuration)
    {
        if (configuration["otlp"] is not { } address)
        {
            return;
        }

        if (address.Length > 0)
        {
            // The exporters read it from here, as they do the environment's, and add the path of the signal to it.
            configuration["OTEL_EXPORTER_OTLP_ENDPOINT"] = Uri.TryCreate(address, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https"
                ? address
                : throw new ArgumentException($"--otlp must be an http or https address such as http://127.0.0.1:4317, but is {address}.");
        }

        services.AddOpenTelemetry()
            .ConfigureResource(resource => resource.AddService(configuration["OTEL_SERVICE_NAME"] ?? "shop"))
            .WithMetrics(metrics => metrics.AddMeter(Packages).AddAspNetCoreInstrumentation().AddHttpClientInstrumentation().AddOtlpExporter())
            .WithTracing(traces => traces.AddSource(Packages).AddAspNetCoreInstrumentation(o => o.Filter = context => !IsPoll(context.Request)).AddHttpClientInstrumentation().AddOtlpExporter());
    }

    /// <summary>What the dashboard's sampler asks payments and the customer each second is nobody's request. Its client makes no spans (<see cref="Controls.Client"/>), so these would be traces of their own.</summary>
    private static bool IsPoll(HttpRequest request) => HttpMethods.IsGet(request.Method) && request.Path.Value is "/faults" or "/broken";
}
