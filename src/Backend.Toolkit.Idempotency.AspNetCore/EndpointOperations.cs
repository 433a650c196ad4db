using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>The executor of an endpoint, and the name under which its keys are kept: executor, method, route. Worked out once for each endpoint.</summary>
internal sealed class EndpointOperations(IServiceProvider services)
{
    private readonly ConditionalWeakTable<Endpoint, Entry> _entries = [];

    public Entry Of(Endpoint endpoint, IdempotentAttribute attribute) =>
        _entries.TryGetValue(endpoint, out Entry? entry) ? entry : _entries.GetValue(endpoint, key => new Entry(Find(services, attribute.Executor), RouteOf(key)));

    public static IdempotentExecutor Find(IServiceProvider services, string? name) => (name is null ? services.GetService<IdempotentExecutor>() : services.GetKeyedService<IdempotentExecutor>(name))
        ?? throw new InvalidOperationException(name is null
            ? "There is no executor without a name. Register one: services.AddIdempotency(options => …), or name one in RequireIdempotency."
            : $"There is no executor '{name}'. Register one: services.AddIdempotency(\"{name}\", options => …).");

    /// <summary>Actions under one conventional route share its text; what stands in it for each of them is their own.</summary>
    private static string RouteOf(Endpoint endpoint) => endpoint is not RouteEndpoint { RoutePattern: { RawText: { } text } pattern } ? endpoint.DisplayName ?? ""
        : string.Join(' ', pattern.RequiredValues
            .Where(required => required.Value is string { Length: > 0 } && pattern.GetParameter(required.Key) is not null)
            .OrderBy(required => required.Key, StringComparer.Ordinal)
            .Select(required => $"{required.Key}={required.Value}")
            .Prepend(text));

    internal sealed class Entry(IdempotentExecutor executor, string route)
    {
        private readonly ConcurrentDictionary<string, string> _operations = new(StringComparer.Ordinal);

        public IdempotentExecutor Executor => executor;

        /// <summary>Methods are the endpoint's own, so that there are few.</summary>
        public string OperationOf(string method) => _operations.TryGetValue(method, out string? operation) ? operation
            : _operations.Count < 16 ? _operations.GetOrAdd(method, Name) : Name(method);

        private string Name(string method) => $"{executor.Name} {method.ToUpperInvariant()} {route}";
    }
}
