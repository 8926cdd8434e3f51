// Made from llmtrace/console/openapi.json by `npm run schema`. Not written by hand.

export interface paths {
    "/api/v1/attention": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Attention
         * @description every head's pattern, pooled
         */
        get: operations["attention_api_v1_attention_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/attention/layer": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Attention/Layer
         * @description every pattern of a layer
         */
        get: operations["attention_layer_api_v1_attention_layer_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/attention/row": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Attention/Row
         * @description where one token looks, exactly
         */
        get: operations["attention_row_api_v1_attention_row_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/attribution": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Attribution
         * @description which tokens the answer comes from, beside occlusion
         */
        get: operations["attribution_api_v1_attribution_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/circuit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Circuit
         * @description the edges that carry the answer, and how faithful they are alone
         */
        get: operations["circuit_api_v1_circuit_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/export": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Export */
        get: operations["export_api_v1_export_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/generation": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Generation
         * @description what each generated token takes from the prompt
         */
        get: operations["generation_api_v1_generation_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/head": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Head
         * @description a head: what it sees and what it writes
         */
        get: operations["head_api_v1_head_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Jobs */
        get: operations["jobs_api_v1_jobs_get"];
        put?: never;
        /** New Job */
        post: operations["new_job_api_v1_jobs_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Cancel */
        delete: operations["cancel_api_v1_jobs__id__delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Events */
        get: operations["events_api_v1_jobs__id__events_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/lens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Lens
         * @description what every stage of every position would say
         */
        get: operations["lens_api_v1_lens_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/meta": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Meta */
        get: operations["meta_api_v1_meta_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/overview": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Overview
         * @description what each head and MLP adds to the answer directly
         */
        get: operations["overview_api_v1_overview_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/patch": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Patch
         * @description activations of the other prompt put in one by one
         */
        get: operations["patch_api_v1_patch_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/paths": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Paths
         * @description what each head and MLP tells the logits, from the other prompt
         */
        get: operations["paths_api_v1_paths_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/runs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Runs */
        get: operations["runs_api_v1_runs_get"];
        put?: never;
        /** New Run */
        post: operations["new_run_api_v1_runs_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** Ablate */
        Ablate: {
            /**
             * How
             * @default zero
             */
            how: string;
            /**
             * Kind
             * @default ablate
             * @constant
             */
            kind: "ablate";
            /** Node */
            node: string;
            /**
             * Positions
             * @default null
             */
            positions: number[] | null;
        };
        /** Attribution */
        Attribution: {
            /** Correlation */
            correlation: number | null;
            /** Gap */
            gap: number | null;
            /** Method */
            method: string;
            /** Occlusion */
            occlusion: number[];
            /** Python */
            python: string;
            /**
             * Refused
             * @default null
             */
            refused: string | null;
            /** Run */
            run: string;
            /** Scores */
            scores: number[];
            /** Spans */
            spans: components["schemas"]["Span"][];
            /** What */
            what: string;
        };
        /**
         * Choices
         * @description What the page offers: rows of the library's own tables.
         */
        Choices: {
            /** Ablations */
            ablations: {
                [key: string]: string;
            };
            /** Edge Methods */
            edge_methods: {
                [key: string]: string;
            };
            /** Sites */
            sites: {
                [key: string]: string;
            };
            /** Token Methods */
            token_methods: {
                [key: string]: string;
            };
        };
        /** CircuitEdge */
        CircuitEdge: {
            /** Kept */
            kept: boolean;
            /** Receiver */
            receiver: string;
            /** Score */
            score: number;
            /** Sender */
            sender: string;
        };
        /** CircuitNode */
        CircuitNode: {
            /** Layer */
            layer: number;
            /** Name */
            name: string;
            /**
             * Role
             * @default null
             */
            role: string | null;
            /** X */
            x: number;
        };
        /** CircuitView */
        CircuitView: {
            /** Curve */
            curve: [
                number,
                number
            ][];
            /** Edges */
            edges: components["schemas"]["CircuitEdge"][];
            /** Edges Cut */
            edges_cut: number;
            /** Edges Total */
            edges_total: number;
            /** Faithfulness */
            faithfulness: number | null;
            /** Method */
            method: string;
            /** Nodes */
            nodes: components["schemas"]["CircuitNode"][];
            /** Python */
            python: string;
            /** Run */
            run: string;
        };
        /**
         * Event
         * @description One line of a job's stream: its state, and the rows that are new.
         */
        Event: {
            job: components["schemas"]["Job"];
            /** Rows */
            rows?: {
                [key: string]: number[];
            };
        };
        /** GeneratedToken */
        GeneratedToken: {
            /** Probability */
            probability: number;
            /** Scores */
            scores: number[];
            /** Spans */
            spans: components["schemas"]["Span"][];
            token: components["schemas"]["Token"];
        };
        /** GenerationView */
        GenerationView: {
            /** Method */
            method: string;
            /** Python */
            python: string;
            /** Run */
            run: string;
            /** Tokens */
            tokens: components["schemas"]["GeneratedToken"][];
        };
        /** HeadCard */
        HeadCard: {
            /** Behaviour */
            behaviour: {
                [key: string]: number;
            };
            /** Direct */
            direct: number | null;
            /** Head */
            head: number;
            /** Key Value Head */
            key_value_head: number;
            /** Layer */
            layer: number;
            /** Python */
            python: string;
            /** Rank */
            rank: number | null;
            /**
             * Refused
             * @default null
             */
            refused: string | null;
            /** Run */
            run: string;
            /** Top Pairs */
            top_pairs: [
                number,
                number,
                number
            ][];
            /** Writes */
            writes: [
                string,
                number
            ][];
        };
        /**
         * HeadMap
         * @description One number per head, one per MLP.
         */
        HeadMap: {
            /** Heads */
            heads: number[][] | null;
            /** Mlps */
            mlps: number[] | null;
            /** Python */
            python: string;
            /**
             * Refused
             * @default null
             */
            refused: string | null;
            /** Title */
            title: string;
            /** Unit */
            unit: string;
            /** What */
            what: string;
        };
        /** Job */
        Job: {
            /** Done */
            done: number;
            /** Id */
            id: string;
            /**
             * Problem
             * @default null
             */
            problem: string | null;
            /** Query */
            query: {
                [key: string]: string;
            };
            /**
             * State
             * @enum {string}
             */
            state: "waiting" | "running" | "done" | "cancelled" | "failed";
            /** Total */
            total: number;
            /** View */
            view: string;
        };
        /**
         * KnockOut
         * @description The head (all of the layer's where head is None) no longer sees `key` from `query`.
         */
        KnockOut: {
            /**
             * Head
             * @default null
             */
            head: number | null;
            /** Key */
            key: number;
            /**
             * Kind
             * @default knock_out
             * @constant
             */
            kind: "knock_out";
            /** Layer */
            layer: number;
            /**
             * Query
             * @default null
             */
            query: number | null;
        };
        /** Lens */
        Lens: {
            /** Correct */
            correct: number[];
            /** Correct Rank */
            correct_rank: number[];
            /** Probability */
            probability: number[][];
            /** Python */
            python: string;
            /** Run */
            run: string;
            /** Stages */
            stages: string[];
            /** Top */
            top: components["schemas"]["Token"][][];
            /** Wrong */
            wrong: number[];
            /** Wrong Rank */
            wrong_rank: number[];
        };
        /** Limits */
        Limits: {
            /** Body Bytes */
            body_bytes: number;
            /** Edges Sent */
            edges_sent: number;
            /** Edits */
            edits: number;
            /** Prompt Characters */
            prompt_characters: number;
            /** Tokens */
            tokens: number;
        };
        /** Meta */
        Meta: {
            choices: components["schemas"]["Choices"];
            /**
             * Kind
             * @default llmtrace.console
             */
            kind: string;
            limits: components["schemas"]["Limits"];
            /** Missing */
            missing: {
                [key: string]: string;
            };
            /**
             * Mode
             * @enum {string}
             */
            mode: "live" | "bundle" | "file";
            model: components["schemas"]["ModelCard"] | null;
            /**
             * Schema Version
             * @default 1
             */
            schema_version: number;
            /** Title */
            title: string;
            /** Versions */
            versions: {
                [key: string]: string;
            };
        };
        /**
         * ModelCard
         * @description A size that a saved folder does not hold is 0.
         */
        ModelCard: {
            /** D Model */
            d_model: number;
            /** Device */
            device: string;
            /** Dtype */
            dtype: string;
            /** Has Mlp */
            has_mlp: boolean;
            /** N Ctx */
            n_ctx: number;
            /** N Heads */
            n_heads: number;
            /** N Key Value Heads */
            n_key_value_heads: number;
            /** N Layers */
            n_layers: number;
            /** Name */
            name: string;
            /** Vocabulary */
            vocabulary: number;
            /** Weights */
            weights: string;
        };
        /** NewJob */
        NewJob: {
            /**
             * Edges
             * @default null
             */
            edges: number | null;
            /**
             * Method
             * @default null
             */
            method: string | null;
            /** Run */
            run: string;
            /**
             * Site
             * @default null
             */
            site: string | null;
            /**
             * Tokens
             * @default null
             */
            tokens: number | null;
            /**
             * View
             * @enum {string}
             */
            view: "patch" | "paths" | "circuit" | "generation";
        };
        /** NewRun */
        NewRun: {
            /**
             * Against
             * @default null
             */
            against: string | null;
            /**
             * Correct
             * @default null
             */
            correct: string | null;
            /** Edits */
            edits?: (components["schemas"]["Ablate"] | components["schemas"]["Patch"] | components["schemas"]["KnockOut"] | components["schemas"]["Steer"])[];
            /**
             * Name
             * @default null
             */
            name: string | null;
            /** Prompt */
            prompt: string;
            /**
             * Wrong
             * @default null
             */
            wrong: string | null;
        };
        /** Overview */
        Overview: {
            /** Explained */
            explained: number | null;
            /** Maps */
            maps: components["schemas"]["HeadMap"][];
            /** Python */
            python: string;
            /** Run */
            run: string;
        };
        /**
         * Patch
         * @description The node gets what it is on the other prompt.
         */
        Patch: {
            /**
             * Kind
             * @default patch
             * @constant
             */
            kind: "patch";
            /** Node */
            node: string;
            /**
             * Positions
             * @default null
             */
            positions: number[] | null;
        };
        /** PathMap */
        PathMap: {
            map: components["schemas"]["HeadMap"];
            /** Run */
            run: string;
        };
        /** Prediction */
        Prediction: {
            /** Logit */
            logit: number;
            /** Probability */
            probability: number;
            token: components["schemas"]["Token"];
        };
        /**
         * Problem
         * @description What a refused request gets (application/problem+json).
         */
        Problem: {
            /** Detail */
            detail: string;
            /** Status */
            status: number;
            /** Title */
            title: string;
        };
        /** Row */
        Row: {
            /** Attention */
            attention: number[];
            /** Head */
            head: number;
            /** Layer */
            layer: number;
            /** Query */
            query: number;
            /** Run */
            run: string;
        };
        /** Run */
        Run: {
            against: components["schemas"]["Side"] | null;
            /** Before */
            before: number | null;
            clean: components["schemas"]["Side"];
            correct: components["schemas"]["Token"] | null;
            /** Edits */
            edits: (components["schemas"]["Ablate"] | components["schemas"]["Patch"] | components["schemas"]["KnockOut"] | components["schemas"]["Steer"])[];
            /** Id */
            id: string;
            /** Metric */
            metric: string;
            /** Name */
            name: string;
            /** Parent */
            parent: string | null;
            /** Provenance */
            provenance: {
                [key: string]: unknown;
            };
            /** Python */
            python: string;
            /** Value */
            value: number | null;
            wrong: components["schemas"]["Token"] | null;
        };
        /** Side */
        Side: {
            /** Entropy */
            entropy: number | null;
            /** Log Probability */
            log_probability: (number | null)[];
            /** Metric */
            metric: number | null;
            /** Prompt */
            prompt: string;
            /** Tokens */
            tokens: components["schemas"]["Token"][];
            /** Top */
            top: components["schemas"]["Prediction"][];
        };
        /** Span */
        Span: {
            /** End */
            end: number;
            /** Name */
            name: string;
            /** Score */
            score: number;
            /** Start */
            start: number;
        };
        /**
         * Steer
         * @description The difference of the two prompts' residual streams at END is added at `layer`, `coefficient` times.
         */
        Steer: {
            /**
             * Coefficient
             * @default 1
             */
            coefficient: number;
            /**
             * Kind
             * @default steer
             * @constant
             */
            kind: "steer";
            /** Layer */
            layer: number;
        };
        /**
         * Sweep
         * @description Activations of the clean run replaced by the other prompt's, one at a time.
         */
        Sweep: {
            /** Against */
            against: number | null;
            /** Before */
            before: number;
            /** Columns */
            columns: string[];
            /** Passes */
            passes: number;
            /** Python */
            python: string;
            /** Rows */
            rows: string[];
            /** Run */
            run: string;
            /** Site */
            site: string;
            /** Values */
            values: number[][];
        };
        /**
         * Tape
         * @description All answers of one sitting: `GET` path with its sorted query -> JSON, or base64 of the bytes.
         */
        Tape: {
            /** Answers */
            answers: {
                [key: string]: unknown;
            };
            /** Bytes */
            bytes: {
                [key: string]: string;
            };
            /**
             * Kind
             * @default llmtrace.console
             */
            kind: string;
            /**
             * Schema Version
             * @default 1
             */
            schema_version: number;
        };
        /** Token */
        Token: {
            /** Id */
            id: number;
            /** Text */
            text: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    attention_api_v1_attention_get: {
        parameters: {
            query: {
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    attention_layer_api_v1_attention_layer_get: {
        parameters: {
            query: {
                layer: number;
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    attention_row_api_v1_attention_row_get: {
        parameters: {
            query: {
                head: number;
                layer: number;
                query: number;
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Row"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    attribution_api_v1_attribution_get: {
        parameters: {
            query: {
                method?: string;
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Attribution"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    circuit_api_v1_circuit_get: {
        parameters: {
            query: {
                edges?: number;
                method?: string;
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CircuitView"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    export_api_v1_export_get: {
        parameters: {
            query?: {
                format?: "html" | "json";
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Tape"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    generation_api_v1_generation_get: {
        parameters: {
            query: {
                method?: string;
                run: string;
                tokens?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["GenerationView"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    head_api_v1_head_get: {
        parameters: {
            query: {
                head: number;
                layer: number;
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HeadCard"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    jobs_api_v1_jobs_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"][];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    new_job_api_v1_jobs_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewJob"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cancel_api_v1_jobs__id__delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    events_api_v1_jobs__id__events_get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Event"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    lens_api_v1_lens_get: {
        parameters: {
            query: {
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Lens"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    meta_api_v1_meta_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Meta"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    overview_api_v1_overview_get: {
        parameters: {
            query: {
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Overview"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    patch_api_v1_patch_get: {
        parameters: {
            query: {
                run: string;
                site?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Sweep"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    paths_api_v1_paths_get: {
        parameters: {
            query: {
                run: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PathMap"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    runs_api_v1_runs_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"][];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    new_run_api_v1_runs_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewRun"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description Refused */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}
